"""Two defences on the same samples: paired, for a difference of means says little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from spikeproof.errors import Refusal
from spikeproof.evaluate._merge import check_alike
from spikeproof.evaluate._record import Record
from spikeproof.evaluate._statistics import holm, mcnemar


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


def compare(records: Mapping[str, Record]) -> tuple[Comparison, ...]:
    """Returns every pair of records compared, with Holm's correction over all pairs."""
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
    attacks = ([(s.id, s.attack) for s in r.steps] for r in (first, second))
    if next(attacks) != next(attacks):
        raise Refusal(
            f"both suites are called {first.suite!r} and have different steps; a comparison needs "
            "equal attacks; evaluate both with one version of the suite"
        )
