"""All that can be doubted of an evaluation: by probing the model, and by reading its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spikeproof.attacks import L1, L2, Linf, Threat
from spikeproof.evaluate._checks import check_record, worst_of
from spikeproof.evaluate._probes import probe
from spikeproof.evaluate._record import Check, Record
from spikeproof.evaluate._roles import roles_of
from spikeproof.evaluate._runner import Job

PROBED = 64  # samples; a probe asks each of them several hundred times


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a check may look at: the model, the samples, and what the suite did to them."""

    job: Job
    classes: int
    record: Record


def doubts(evidence: Evidence) -> tuple[Check, ...]:
    """Returns the checks C1 to C30, by the worst verdict that probe or steps give each."""
    job = evidence.job
    x, y, _ = job.load(job.places[:PROBED])
    return worst_of(
        probe(job.model, x, y, job.threat, seed=job.seed),
        check_record(
            evidence.record,
            roles_of(job.suite),
            classes=evidence.classes,
            unbounded=_unbounded(job.threat, x[0].numel()),
        ),
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
