"""The smallest change that carries a point across a plane without leaving the unit cube.

In float64, and by other means than the package: bisection on the length of the best move.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def budget(norm: str, x: Array, w: Array, need: float) -> float:
    """Returns the smallest norm of a move d with w.d >= need and x + d in [0, 1]."""
    x, w = x.astype(np.float64).ravel(), w.astype(np.float64).ravel()
    room = np.where(w > 0, 1 - x, x)
    steep = np.abs(w)
    if (steep * room).sum() < need:
        raise ValueError("the plane does not meet the cube")
    if norm in ("l0", "l1"):
        return _one_by_one(norm, steep, room, need)
    move = {
        "linf": lambda t: np.minimum(t, room),
        "l2": lambda t: np.minimum(t * steep, room),
    }[norm]
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if steep @ move(middle) < need:
            low = middle
        else:
            high = middle
    move_made = move(high)
    return float(move_made.max() if norm == "linf" else np.sqrt((move_made**2).sum()))


def _one_by_one(norm: str, steep: Array, room: Array, need: float) -> float:
    pays = steep * room if norm == "l0" else steep  # by value moved whole, or by unit moved
    spent = 0.0
    for i in np.argsort(-pays):
        if need <= 1e-12:
            break
        part = min(room[i], need / steep[i])
        need -= part * steep[i]
        spent += 1 if norm == "l0" else part
    return float(spent)
