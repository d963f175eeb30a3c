"""What per-sample truth says: intervals, paired tests, and who contributed what.

All of it takes plain sequences of booleans, one per sample in the order of the record, so that
anybody can compute it later from a record alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

from spikeproof.errors import Refusal, short

Bits = Sequence[bool]


def wilson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's interval of a share (Wilson, 1927).

    >>> [round(bound, 4) for bound in wilson(0, 10)]
    [0.0, 0.2775]
    """
    if not 0 <= hits <= total or not total:
        raise Refusal(f"{hits} of {total} is no share; count hits among at least one sample")
    if not 0 < confidence < 1:
        raise Refusal(f"the confidence is {confidence}; it is a share between 0 and 1; take 0.95")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = hits / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    # at 0 and 1 the bound is exact and rounding must not move it
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == total else middle + half)


def clopper_pearson(hits: int, total: int, alpha: float) -> float:
    """Returns the exact one-sided lower bound of a share: too high in at most ``alpha`` of cases.

    It is the p at which so many hits or more have the probability ``alpha`` (Clopper and Pearson,
    1934), found by bisection and never rounded up.

    >>> round(clopper_pearson(100, 100, 0.001), 6) == round(0.001 ** (1 / 100), 6)
    True
    """
    if not 0 <= hits <= total or not total:
        raise Refusal(f"{hits} of {total} is no share; count hits among at least one sample")
    if not 0 < alpha < 1:
        raise Refusal(
            f"alpha is {short(alpha)}; it is the probability of an error, between 0 and 1; "
            "take 0.001"
        )
    low, high = 0.0, hits / total
    while hits and low < (middle := (low + high) / 2) < high:
        reached = _beta(middle, hits, total - hits + 1) <= alpha
        low, high = (middle, high) if reached else (low, middle)
    return low * (1 - 1e-8)  # more than the rounding of logarithms of factorials


def _beta(x: float, a: float, b: float) -> float:
    """Returns the regularised incomplete beta function by its continued fraction (Lentz)."""
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _beta(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value, step, m = d, 0.0, 0
    while abs(step - 1) > 1e-15:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / (1 + even * d), 1 + even / c
        value *= c * d
        d, c = 1 / (1 + odd * d), 1 + odd / c
        step = c * d
        value *= step
    return front * value


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p-value that discordant pairs split by a fair coin.

    >>> mcnemar(0, 5)
    0.0625
    """
    total, term, tail = only_first + only_second, 1, 0
    for k in range(min(only_first, only_second) + 1):
        tail += term
        term = term * (total - k) // (k + 1)
    return min(1.0, 2 * tail / 2**total)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns p-values adjusted for being several (Holm, 1979), in their order.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return tuple(adjusted)


def robust_accuracy(clean: Bits, *broken: Bits) -> float:
    """Returns the share of all samples that are right and that none of these attacks breaks."""
    return sum(_robust(clean, broken)) / len(clean)


def cumulative(clean: Bits, broken: Sequence[Bits]) -> tuple[float, ...]:
    """Returns the robust accuracy after each attack of a sequence."""
    return tuple(robust_accuracy(clean, *broken[: i + 1]) for i in range(len(broken)))


def contributions(broken: Sequence[Bits]) -> tuple[tuple[int, ...], ...]:
    """Returns how many samples attacks i and j both break; the diagonal counts each alone."""
    return tuple(tuple(_both(a, b) for b in broken) for a in broken)


def only_by(broken: Sequence[Bits]) -> tuple[int, ...]:
    """Returns for each attack how many samples it breaks and no other does."""
    times = [sum(column) for column in zip(*broken, strict=True)]
    return tuple(
        sum(hit and count == 1 for hit, count in zip(bits, times, strict=True)) for bits in broken
    )


def jaccard(broken: Sequence[Bits]) -> tuple[tuple[float, ...], ...]:
    """Returns how alike the broken sets are: the common share of what either breaks.

    Two attacks that break nothing break the same.
    """
    counts = contributions(broken)
    return tuple(
        tuple(
            counts[i][j] / either if (either := counts[i][i] + counts[j][j] - counts[i][j]) else 1.0
            for j in range(len(broken))
        )
        for i in range(len(broken))
    )


def success_over_correct(clean_accuracy: float, robust: float) -> float:
    """Returns the attack success rate over the samples that were right before the attack."""
    return (clean_accuracy - robust) / clean_accuracy if clean_accuracy else 0.0


def success_over_all(robust: float) -> float:
    """Returns the attack success rate over all samples, clean errors included: ``1 - RA``."""
    return 1 - robust


def steps_curve(clean: Bits, broken: Bits, at: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """Returns the robust accuracy after each query that broke a sample, from query 0 on."""
    rows = zip(broken, clean, at, strict=True)
    falls = Counter(query for hit, right, query in rows if hit and right)
    standing, curve = sum(clean), [(0, sum(clean) / len(clean))]
    for query in sorted(falls):
        standing -= falls[query]
        curve.append((query, standing / len(clean)))
    return tuple(curve)


def _robust(clean: Bits, broken: Sequence[Bits]) -> list[bool]:
    return [
        all(row) for row in zip(clean, *([not b for b in bits] for bits in broken), strict=True)
    ]


def _both(a: Bits, b: Bits) -> int:
    return sum(x and y for x, y in zip(a, b, strict=True))
