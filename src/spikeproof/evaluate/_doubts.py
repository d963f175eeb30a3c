"""All that can be doubted of an evaluation: by probing the model, and by reading its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from spikeproof.attacks import L1, L2, Linf, Threat, stochastic
from spikeproof.evaluate._checks import made, skip
from spikeproof.evaluate._graphs import other_graphs, undefended
from spikeproof.evaluate._intake import told
from spikeproof.evaluate._planting import planted_masking
from spikeproof.evaluate._probes import probe
from spikeproof.evaluate._reading import Reading
from spikeproof.evaluate._record import Check, Record
from spikeproof.evaluate._roles import roles_of
from spikeproof.evaluate._runner import Job

PROBED = 64  # samples; a probe asks each of them several hundred times
TESTED = ("smoke", "full")  # suites that test the checks themselves


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a check may look at: the model, the samples, and what the suite did to them.

    ``control`` is a network without a defence; ``tier`` the name of the suite, if it has one.
    """

    job: Job
    classes: int
    record: Record
    control: nn.Module | None = None
    tier: str = ""


def doubts(evidence: Evidence) -> tuple[Check, ...]:
    """Returns what is measured of the model beside the suite; its bits are read elsewhere.

    The first samples of the manifest are asked, so that every shard finds the same.
    """
    job = evidence.job
    x, y, ids = job.load(range(min(PROBED, len(job.manifest.indices))))
    beside = [
        other_graphs(job, x, y, ids),
        undefended(job, evidence.control, x, y, ids),
        skip("C30", "one record is compared with none; compare() makes this check"),
    ]
    if evidence.tier in TESTED:
        bare = evidence.control or job.model
        try:
            beside.append(planted_masking(bare, x, y, job.threat, job.seed))
        except Exception as error:  # noqa: BLE001  a network of anybody's may raise anything
            beside.append(skip("C27", f"no defence could be planted ({told(error)})"))
    else:
        beside.append(skip("C27", f"the suites {' and '.join(TESTED)} test the checks themselves"))
    return made(probe(job.model, x, y, job.threat, seed=job.seed), beside)


def reading(evidence: Evidence, measured: Sequence[Check]) -> Reading:
    """Returns how the steps are read; a model whose answers differ by themselves draws noise."""
    job = evidence.job
    verdicts = {check.id: check.verdict for check in measured}
    noisy = verdicts.get("C1") == "flag" and verdicts.get("C2") == "pass"
    return Reading(
        roles_of(job.suite, job.threat),
        evidence.classes,
        stochastic=noisy or stochastic(job.model),
        unbounded=_unbounded(job.threat, math.prod(job.manifest.shape)),
    )


def _unbounded(threat: Threat, values: int) -> float:
    """Returns the budget that admits every input of the range."""
    match threat:
        case Linf():
            return threat.high - threat.low
        case L2():
            return (threat.high - threat.low) * math.sqrt(values)
        case L1():
            return (threat.high - threat.low) * values
    return math.inf
