"""Searches for one sample, step by step in float64, as their papers tell them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Oracle = Callable[[Array], tuple[float, Array]]  # loss and gradient


def _ball(z: Array, x: Array, eps: float) -> Array:
    return np.clip(np.clip(z, x - eps, x + eps), 0, 1)


def checkpoints(steps: int) -> list[int]:
    """Returns the steps at which a size is judged: gaps of 22 %, less 3 % each, not below 6 %."""
    gaps = [22, 19, 16, 13, 10, 7, *[6] * 20]
    return [int(np.ceil(steps * mark / 100)) for mark in np.cumsum(gaps) if mark <= 100]


def apgd(ask: Oracle, start: Array, x: Array, eps: float, steps: int) -> list[Array]:
    """Returns every iterate of Auto-PGD under Linf, the start first."""
    marks = checkpoints(steps)
    losses, size = [], 2 * eps
    loss, slope = ask(start)
    losses.append(loss)
    best, best_loss, best_slope = start, loss, slope
    iterates, before, now = [start], start, start
    halved, best_then, last = True, loss, 0
    for k in range(steps):
        ahead = _ball(now + size * np.sign(slope), x, eps)
        share = 0.75 if k else 1.0
        new = _ball(now + share * (ahead - now) + (1 - share) * (now - before), x, eps)
        before, now = now, new
        iterates.append(now)
        loss, slope = ask(now)
        losses.append(loss)
        if loss > best_loss:
            best, best_loss, best_slope = now, loss, slope
        if k + 1 in marks:
            rises = sum(losses[i + 1] > losses[i] for i in range(last, k + 1))
            poor = rises < 0.75 * (k + 1 - last)
            same = not halved and best_loss == best_then
            halved = poor or same
            best_then, last = best_loss, k + 1
            if halved:
                size /= 2
                now, slope, losses[-1] = best, best_slope, best_loss
    return iterates


def sapgd(ask: Oracle, start: Array, x: Array, eps: float, steps: int) -> list[Array]:
    """Returns every iterate of stable adaptive PGD, the start first."""
    size, momentum, square = eps, 0.0, 0.0
    now, iterates = start, [start]
    for k in range(steps):
        _, g = ask(now)
        momentum = 0.5 * momentum + g / np.abs(g).mean()
        square = 0.8 * square + g**2 / (g**2).mean()
        move = np.clip(size * momentum / (np.sqrt(square) + 1e-12), -size, size)
        now = _ball(now + move, x, eps)
        iterates.append(now)
        if k + 1 in checkpoints(steps):
            size /= 2
    return iterates
