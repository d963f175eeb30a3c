"""Whether adversarial event frames are what they claim to be, counted from scratch.

One sample at a time, (T, C, H, W) in numpy; matchings by trying all of them, or by the Hungarian
method where a pixel has more packets than can be tried.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment

TRIED = 5


def changes(x_adv, x, binary):
    """The number of events added and removed; None where no sensor delivers ``x_adv``."""
    total = 0
    for new, old in zip(np.ravel(x_adv).tolist(), np.ravel(x).tolist(), strict=True):
        if not (new >= 0 and new == int(new) and (not binary or new <= 1)):
            return None
        total += abs(int(new) - int(old))
    return total


def retimed(x_adv, x):
    """The least B0, B1 and Binf that explain ``x_adv``; None where no retiming does."""
    moved, total, furthest = 0, 0, 0
    steps = x.shape[0]
    lines = zip(x_adv.reshape(steps, -1).T, x.reshape(steps, -1).T, strict=True)
    for new, old in lines:
        packets = {float(a) for a in new} | {float(a) for a in old}
        for amplitude in packets - {0.0}:
            if not (amplitude > 0 and amplitude == int(amplitude)):
                return None
            to = [t for t in range(steps) if new[t] == amplitude]
            origin = [t for t in range(steps) if old[t] == amplitude]
            if len(to) != len(origin):
                return None
            shifts = np.abs(np.subtract.outer(origin, to))
            parts = (_least(shifts > 0, sum), _least(shifts, sum), _least(shifts, max))
            moved, total, furthest = moved + parts[0], total + parts[1], max(furthest, parts[2])
    return {"b0": moved, "b1": total, "binf": furthest}


def _least(cost, fold):
    cost = cost.astype(int)
    n = len(cost)
    if n <= TRIED:
        return min(
            int(fold(cost[i, order[i]] for i in range(n)))
            for order in itertools.permutations(range(n))
        )
    if fold is sum:
        return int(cost[linear_sum_assignment(cost)].sum())
    for limit in np.unique(cost):
        rows, columns = linear_sum_assignment(cost > limit)
        if not (cost > limit)[rows, columns].any():
            return int(limit)
    raise AssertionError("the largest cost is always a limit")
