"""How far a run is, how fast it goes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step; ``rate`` is in samples a second, ``left`` in seconds."""

    step: int
    steps: int
    epoch: int
    loss: float
    rate: float
    left: float


def clock(first: int, steps: int) -> Callable[[int, int, float, int], Progress]:
    """Returns what makes a progress of step, epoch, loss and batch size, since step ``first``."""
    # Means since the start: smooth, and validations are counted in.
    begun, samples = time.perf_counter(), 0

    def progress(step: int, epoch: int, loss: float, batch: int) -> Progress:
        nonlocal samples
        samples += batch
        spent = max(time.perf_counter() - begun, 1e-9)
        left = spent / (step - first) * (steps - step)
        return Progress(step, steps, epoch, loss, samples / spent, left)

    return progress
