"""What an event camera recorded, and the N-MNIST files that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeproof.data._files import read_whole
from spikeproof.errors import Refusal
from spikeproof.records import replace_file

Array = npt.NDArray[Any]

_DTYPES = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
_LATEST = 2**53  # 285 years of microseconds; beyond it a float no longer tells two of them apart
_LARGEST = 2**15  # the widest coordinate that any of the formats can hold, plus one
_OVERFLOW_ROW = 240  # ATIS has rows 0..239; a record in row 240 says that the clock wrapped
_OVERFLOW_US = 2**13
_NMNIST_END = 2**23  # the clock of a record has 23 bits


@dataclass(frozen=True, eq=False)
class Events:
    """A recording: microsecond, column, row and polarity (1 = on) of every event, in time order.

    ``t`` is int64, ``x`` and ``y`` are uint16, ``p`` is uint8. Row 0 is the upper edge of the
    picture. A recording may be empty.
    """

    t: Array
    x: Array
    y: Array
    p: Array
    height: int
    width: int

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != (len(self.t),):
                raise Refusal(
                    f"{name} is {array.dtype} of shape {array.shape}; all four arrays of a "
                    f"recording have one axis and the same length, and {name} is "
                    f"{dtype.__name__}; convert it"
                )
        for name, size in (("height", self.height), ("width", self.width)):
            if not 1 <= size <= _LARGEST:
                raise Refusal(
                    f"{name} is {size}; a sensor has 1..{_LARGEST} pixels a side; "
                    "give the size of the sensor"
                )
        if len(self.t):
            self._check_values()

    def _check_values(self) -> None:
        for name, end in (("x", self.width), ("y", self.height), ("p", 2)):
            largest = int(getattr(self, name).max())
            if largest >= end:
                raise Refusal(
                    f"{name} reaches {largest}; it must be below {end}; give the size of the "
                    "sensor that made the recording, or take an unchanged copy of it"
                )
        backward = self.t[1:] < self.t[:-1]
        if backward.any():
            k = int(backward.argmax()) + 1
            raise Refusal(
                f"event {k} is {self.t[k - 1] - self.t[k]} us before the one that precedes it; "
                "events are in order of time; sort them, or take an unchanged copy"
            )
        if not (self.t[0] >= 0 and self.t[-1] < _LATEST):
            raise Refusal(
                f"the time stamps run from {self.t[0]} to {self.t[-1]}; they are microseconds in "
                f"0..{_LATEST - 1}; subtract the first, or take an unchanged copy"
            )

    def __len__(self) -> int:
        return len(self.t)


def recording(path: Path, t: Array, x: Array, y: Array, p: Array, size: tuple[int, int]) -> Events:
    """Returns what a reader found as Events; a complaint names the file."""
    if not len(t):
        raise Refusal(
            f"{path} holds no events; a recording to read has at least one; leave the file out"
        )
    if any(a.dtype.kind != "u" and int(a.min()) < 0 for a in (x, y)):
        raise Refusal(
            f"{path} has an event at column {x.min()}, row {y.min()}; coordinates start at 0; "
            "take an unchanged copy"
        )
    try:
        return Events(
            t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), *size
        )
    except Refusal as error:
        raise Refusal(f"{path}: {error}") from None


def read_nmnist(path: Path, height: int = 34, width: int = 34) -> Events:
    """Returns the recording in a file of N-MNIST or N-Caltech101 (ATIS, 40 bits an event)."""
    blob = read_whole(path)
    if len(blob) % 5:
        raise Refusal(
            f"{path} has {len(blob)} bytes; an event has 5, so the last record is cut; "
            "take an unchanged copy"
        )
    x, y, high, middle, low = np.ascontiguousarray(np.frombuffer(blob, np.uint8).reshape(-1, 5).T)
    t = (high & 127).astype(np.int64)
    for byte in (middle, low):
        t <<= 8
        t |= byte
    p, wrapped = high >> 7, y == _OVERFLOW_ROW
    if wrapped.any():
        real = ~wrapped
        t = (t + _OVERFLOW_US * np.cumsum(wrapped))[real]
        x, y, p = x[real], y[real], p[real]
    return recording(path, t, x, y, p, (height, width))


def write_nmnist(path: Path, events: Events) -> None:
    """Writes a recording as N-MNIST publishes them; what :func:`read_nmnist` reads back."""
    if events.height > _OVERFLOW_ROW or events.width > 256:
        raise Refusal(
            f"the sensor has {events.height} x {events.width} pixels; the format holds at most "
            f"{_OVERFLOW_ROW} rows and 256 columns; scale the recording down"
        )
    if not len(events):
        raise Refusal("the recording is empty; a file has at least one event; leave it out")
    if events.t[-1] >= _NMNIST_END:
        raise Refusal(
            f"the last event is at {events.t[-1]} us; the format's clock ends at "
            f"{_NMNIST_END - 1} us; subtract the first time stamp, or cut the recording"
        )
    t = events.t
    high = events.p.astype(np.int64) << 7 | t >> 16
    columns = np.stack([events.x, events.y, high, t >> 8 & 255, t & 255], axis=1)
    blob = columns.astype(np.uint8).tobytes()
    replace_file(path, lambda part: part.write_bytes(blob))
