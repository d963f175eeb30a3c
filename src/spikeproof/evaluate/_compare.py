"""Two defences on the same samples: paired, for a difference of means says little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import parity
from spikeproof.evaluate._merge import check_alike
from spikeproof.evaluate._record import Check, Record
from spikeproof.statistics import holm, mcnemar


@dataclass(frozen=True)
class Comparison:
    """Two records of the same samples under the same suite."""

    first: str
    second: str
    robust: tuple[float, float]
    only_first: int  # samples that stand in the first record alone
    only_second: int
    p: float  # exact McNemar
    p_holm: float  # corrected for all pairs that were asked for
    parity: Check  # C30: where it fails, neither is the better one


def compare(records: Mapping[str, Record]) -> tuple[Comparison, ...]:
    """Returns every pair of records compared, with Holm's correction over all pairs.

    Records of other samples, threats, seeds or attacks are refused. Where attacks could not be run
    on one of them, crashed there or followed other networks, ``parity`` says so.
    """
    if len(records) < 2:
        raise Refusal(f"{len(records)} record was given; a comparison needs two; name another")
    counts = []
    for (a, first), (b, second) in combinations(records.items(), 2):
        _check_samples(first, second)
        pairs = list(zip(first.robust, second.robust, strict=True))
        counts.append(
            (a, b, sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs))
        )
    p_values = [mcnemar(one, other) for _, _, one, other in counts]
    return tuple(
        Comparison(
            first=a,
            second=b,
            robust=(records[a].robust_accuracy, records[b].robust_accuracy),
            only_first=one,
            only_second=other,
            p=p,
            p_holm=corrected,
            parity=parity([protocol(records[a]), protocol(records[b])]),
        )
        for (a, b, one, other), p, corrected in zip(counts, p_values, holm(p_values), strict=True)
    )


def _check_samples(first: Record, second: Record) -> None:
    check_alike(first, second, ("threat", "suite", "seed"))
    for name in ("indices", "label_sha256", "tensor_sha256"):
        if getattr(first.data, name) != getattr(second.data, name):
            raise Refusal(
                f"data.{name} differs between the records; a paired comparison needs the same "
                "samples; evaluate both on the same data with the same limit"
            )
    if first.places != second.places:
        raise Refusal("the records hold different shards; merge the shards of each, then compare")
    if protocol(first)["attacks"] != protocol(second)["attacks"]:
        raise Refusal(
            f"both suites are called {first.suite!r} and have different steps; a comparison needs "
            "equal attacks; evaluate both with one version of the suite"
        )


def protocol(record: Record) -> dict[str, object]:
    """Returns what records must have in common to be compared, by name."""
    steps = record.steps
    return {
        "threats": record.threat,
        "seeds": record.seed,
        "samples": (record.data.indices, record.data.label_sha256, record.data.tensor_sha256),
        "attacks": [(s.id, s.attack, s.everyone, s.threat, s.limit) for s in steps],
        "attacks that were run": [s.id for s in steps if not s.skipped],
        "attacks that crashed": [s.id for s in steps if any(s.crashed)],
        "networks whose gradient was followed": [(s.id, s.source) for s in steps if s.source],
    }
