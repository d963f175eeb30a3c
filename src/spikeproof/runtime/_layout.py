"""Where maps lie in the arena, and where every kept weight meets them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikeproof.ir import Conv, Linear
from spikeproof.runtime._vectors import LANES

Array = np.ndarray


@dataclass(frozen=True)
class Map:
    """Where a node's map lies: planes of channels, rows with zeros around, steps innermost."""

    at: int
    channels: int
    high: int
    wide: int
    lanes: int
    pad: int

    @property
    def pitch(self) -> int:
        """Positions from one row to the next: the zeros on its right are the next one's left."""
        return self.wide + self.pad

    @property
    def plane(self) -> int:
        """Floats from one channel to the next."""
        places = (self.high + 2 * self.pad) * self.pitch + self.pad
        return -(-places * self.lanes // LANES) * LANES

    @property
    def origin(self) -> int:
        """The float of the first channel's first position."""
        return self.at + (self.pad * self.pitch + self.pad) * self.lanes

    def view(self, arena: Array, steps: int) -> Array:
        """Returns the map (C, H, W, steps) as a view of the arena."""
        size = arena.itemsize
        strides = (self.plane, self.pitch * self.lanes, self.lanes, 1)
        shape = (self.channels, self.high, self.wide, min(steps, self.lanes))
        window = arena[self.origin :]
        return np.lib.stride_tricks.as_strided(window, shape, [s * size for s in strides])


def lanes_of(steps: int) -> int:
    """Returns the floats of a position: its steps, rounded up to what vectors hold."""
    return 1 if steps == 1 else -(-steps // 4) * 4


@dataclass(frozen=True)
class Run:
    """Where runs of a layer begin: in the map that it reads, or in a copy that undoes a stride."""

    at: int
    plane: int
    phase_plane: int
    pitch: int


@dataclass(frozen=True)
class Window:
    """The window of a layer; a dense one sees the whole map and steps by all of it."""

    kernel: tuple[int, int]
    step: tuple[int, int]
    pad: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Axes:
    """Where every kept weight stands."""

    output: Array
    channel: Array
    phase: Array  # which of the maps that a stride visits
    fold: Array  # how far into that map, in positions
    reach: Array  # how far back from an event it adds to the output, in positions


def unravelled(node: Conv | Linear, source: Map, window: Window) -> Axes:
    """Returns where the kept weights of a layer stand, in their order."""
    flat = node.weights.positions.astype(np.int64)
    inner = math.prod(node.weights.shape[1:])
    output, rest = flat // inner, flat % inner
    if isinstance(node, Linear):
        area = source.high * source.wide
        channel, spot = rest // area, rest % area
        fold = spot // source.wide * source.pitch + spot % source.wide
        return Axes(output, channel, spot, fold, np.zeros_like(fold))
    area = window.kernel[0] * window.kernel[1]
    channel, spot = rest // area, rest % area
    y, x = spot // window.kernel[1], spot % window.kernel[1]
    phase = (y % window.step[0]) * window.step[1] + x % window.step[1]
    pitch = source.pitch
    if window.step != (1, 1):
        pitch = -(-(source.wide + 2 * window.pad[1]) // window.step[1])
        pitch += (window.kernel[1] - 1) // window.step[1]
    fold = y // window.step[0] * pitch + x // window.step[1]
    return Axes(output, channel, phase, fold, fold)
