"""All that an attacker of a tiny network can do, one by one."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np


def flipped(x: np.ndarray, k: int) -> np.ndarray:
    """Every binary array that differs from ``x`` in at most k places."""
    found = []
    for count in range(k + 1):
        for places in itertools.combinations(range(x.size), count):
            other = x.reshape(-1).copy()
            other[list(places)] = 1 - other[list(places)]
            found.append(other.reshape(x.shape))
    return np.stack(found)


def breakpoints(
    slope: float,
    shift: float,
    span: tuple[float, float],
    steps: int,
    theta: float,
    tau: float,
    *,
    hard: bool,
) -> set[Fraction]:
    """Where, for one number x in a span, the spikes of a neuron with the current slope x + shift
    change: between two of them its membrane is affine in x, and its train is one."""
    found: set[Fraction] = set()
    a, b, theta, tau = (Fraction(float(value)) for value in (slope, shift, theta, tau))

    def follow(low: Fraction, high: Fraction, t: int, p: Fraction, q: Fraction) -> None:
        if t == steps:
            return
        p, q = tau * p + a, tau * q + b
        cuts = [low, high]
        if p and low < (theta - q) / p < high:
            cuts.insert(1, (theta - q) / p)
            found.add(cuts[1])
        for left, right in itertools.pairwise(cuts):
            fired = p * (left + right) / 2 + q >= theta
            rest = (Fraction(0), Fraction(0)) if hard else (p, q - theta)
            follow(left, right, t + 1, *(rest if fired else (p, q)))

    follow(Fraction(span[0]), Fraction(span[1]), 0, Fraction(0), Fraction(0))
    return found


def grid(points: set[Fraction], span: tuple[float, float]) -> list[float]:
    """Numbers of which one lies in every piece that the points cut the span into."""
    edges = sorted({Fraction(span[0]), *points, Fraction(span[1])})
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    return [float(value) for value in sorted({*edges, *middles})]
