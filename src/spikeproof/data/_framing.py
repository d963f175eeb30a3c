"""From events to frames: counts per slice of time, polarity and pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spikeproof.data._recordings import Events
from spikeproof.errors import Refusal


def by_time(events: Events, steps: int, *, binary: bool = False) -> npt.NDArray[np.uint8]:
    """Returns (T, 2, H, W) counts in ``steps`` slices of equal duration; channel 0 is off, 1 on.

    The slices run from the first event to the last, which belongs to the last slice. Counts stop
    at 255, and at 1 if ``binary``.
    """
    _check(steps)
    if not len(events):
        return _counts(events, [0] * (steps + 1), binary=binary)
    first = int(events.t[0])
    span = int(events.t[-1]) - first + 1
    edges = [first - (-k * span // steps) for k in range(steps + 1)]
    return _counts(events, np.searchsorted(events.t, edges), binary=binary)


def by_count(events: Events, steps: int, *, binary: bool = False) -> npt.NDArray[np.uint8]:
    """Returns (T, 2, H, W) counts in ``steps`` slices of equally many events, else as by_time.

    Where the number cannot be divided, the first slices hold one event more.
    """
    _check(steps)
    size, more = divmod(len(events), steps)
    cuts = [k * size + min(k, more) for k in range(steps + 1)]
    return _counts(events, cuts, binary=binary)


def resized(events: Events, height: int, width: int) -> Events:
    """Returns the recording of a coarser sensor: neighbouring pixels become one, no event is lost.

    Row ``y`` becomes row ``y * height // events.height``, and columns likewise.
    """
    if not (1 <= height <= events.height and 1 <= width <= events.width):
        raise Refusal(
            f"the new size is {height} x {width}; events can only be moved to a sensor of at most "
            f"{events.height} x {events.width} pixels; give a smaller size"
        )
    x = events.x.astype(np.int64) * width // events.width
    y = events.y.astype(np.int64) * height // events.height
    return replace(events, x=x.astype(np.uint16), y=y.astype(np.uint16), height=height, width=width)


def _check(steps: int) -> None:
    if steps < 1:
        raise Refusal(f"steps is {steps}; frames need at least one slice; give 1 or more")


def _counts(
    events: Events, cuts: list[int] | npt.NDArray[np.intp], *, binary: bool
) -> npt.NDArray[np.uint8]:
    steps, size = len(cuts) - 1, events.height * events.width
    cell = np.repeat(np.arange(0, 2 * steps * size, 2 * size), np.diff(cuts))
    for part, stride in ((events.p, size), (events.y, events.width), (events.x, 1)):
        cell += part.astype(np.int64) * stride
    counts = np.bincount(cell, minlength=2 * steps * size)
    shape = (steps, 2, events.height, events.width)
    return np.minimum(counts, 1 if binary else 255).astype(np.uint8).reshape(shape)
