"""What a network is made of, as plain arrays: a node names the earlier nodes that it reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from spikeproof.errors import Refusal, short, within

MOST_WEIGHTS = 1_000_000_000
MOST_VALUES = 1 << 28  # of one map over all steps: a gigabyte
MOST_SIDE = 65_536

Code = Literal["direct", "frames", "averaged", "phase", "rate", "latency", "poisson"]
How = Literal["max", "avg"]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Weights:
    """A tensor of which only what is not zero is stored: places in the flat array, and values."""

    shape: tuple[int, ...]
    positions: np.ndarray  # uint32, ascending
    values: np.ndarray  # float32

    def __post_init__(self) -> None:
        size = math.prod(self.shape)
        if not self.shape or min(self.shape) < 1 or size > MOST_WEIGHTS:
            raise Refusal(
                f"weights have the shape {short(self.shape)}; every axis has a length and all have "
                f"up to {MOST_WEIGHTS:,} places; take a smaller layer"
            )
        if self.positions.dtype != np.uint32 or self.values.dtype != np.float32:
            raise Refusal(
                f"weights are {self.positions.dtype} and {self.values.dtype}; places are uint32, "
                "values float32; convert them"
            )
        ends = self.positions[[0, -1]] if len(self.positions) else np.zeros(2)
        rising = bool((self.positions[1:] > self.positions[:-1]).all()) and ends[1] < size
        if self.positions.ndim != 1 or self.positions.shape != self.values.shape or not rising:
            raise Refusal(
                f"weights of shape {self.shape} have places that do not rise within them or do not "
                "match their values; each place is given once, in order; take Weights.of"
            )
        _check_finite("weights", self.values)

    @classmethod
    def of(cls, dense: np.ndarray) -> Weights:
        """Returns what is not zero of a dense array."""
        flat = np.ascontiguousarray(dense, np.float32).reshape(-1)
        places = np.flatnonzero(flat)
        return cls(tuple(int(n) for n in dense.shape), places.astype(np.uint32), flat[places])

    def dense(self) -> np.ndarray:
        """Returns the array with its zeros."""
        flat = np.zeros(math.prod(self.shape), np.float32)
        flat[self.positions] = self.values
        return flat.reshape(self.shape)

    @property
    def size(self) -> int:
        """How many weights there would be without sparsity."""
        return math.prod(self.shape)

    @property
    def kept(self) -> int:
        """How many are not zero."""
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Input:
    """What a sensor delivers, (C, H, W), or event frames of it; normalised, then coded."""

    shape: tuple[int, ...]
    steps: int  # T
    code: Code = "direct"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bits: int = 8  # of a phase code
    weighted: bool = False
    noise: np.ndarray | None = None  # (T, C, H, W) that a Poisson code compares pixels with
    kind: ClassVar[str] = "input"

    def __post_init__(self) -> None:
        if len(self.shape) != 3:
            raise Refusal(f"input is {short(self.shape)}; it has channels, height and width")
        for side in self.shape:
            within("a side of the input", side, 1, MOST_SIDE)
        within("T", self.steps, 1, 10_000)
        within("bits", self.bits, 1, 16)
        if len(self.mean) not in (1, self.shape[0]) or len(self.std) != len(self.mean):
            raise Refusal(
                f"{len(self.mean)} means and {len(self.std)} deviations for {self.shape[0]} "
                "channels; there is one of each, or one a channel; take the training set's"
            )
        for mean, std in zip(self.mean, self.std, strict=True):
            within("mean", mean, -1e12, 1e12)
            within("std", std, 1e-12, 1e12)
        if (self.noise is not None) != (self.code == "poisson"):
            raise Refusal(f"a {self.code} code and its noise do not fit; only poisson has noise")
        if self.noise is not None:
            _check_array("noise", self.noise, (self.steps, *self.shape))

    @property
    def sources(self) -> tuple[int, ...]:
        """Nothing comes before the input."""
        return ()

    @property
    def static(self) -> bool:
        """Whether one value serves all steps, so that time opens at the first neurons."""
        return self.code in ("direct", "averaged")

    @property
    def events(self) -> bool:
        """Whether frames (T, C, H, W) come in instead of an image."""
        return self.code in ("frames", "averaged")

    @property
    def analog(self) -> bool:
        """Whether values come out and not spikes."""
        return self.code in ("direct", "frames", "averaged")


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution (O, I, kh, kw) with zeros around the map, and a bias."""

    source: int
    weights: Weights
    bias: np.ndarray
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        if len(self.weights.shape) != 4:
            raise Refusal(f"a convolution's weights are {self.weights.shape}; they have four axes")
        _check_array("bias", self.bias, self.weights.shape[:1])
        _check_window(self.weights.shape[2:], self.stride, self.padding)

    @property
    def sources(self) -> tuple[int, ...]:
        """The node that it reads."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Linear:
    """A dense layer (O, I) on a flat map, and a bias."""

    source: int
    weights: Weights
    bias: np.ndarray
    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        if len(self.weights.shape) != 2:
            raise Refusal(f"a dense layer's weights are {self.weights.shape}; they have two axes")
        _check_array("bias", self.bias, self.weights.shape[:1])

    @property
    def sources(self) -> tuple[int, ...]:
        """The node that it reads."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Neurons:
    """``u <- tau u + x``, a spike where ``u >= theta``, and the reset."""

    source: int
    theta: float
    tau: float
    hard: bool = True
    kind: ClassVar[str] = "neurons"

    def __post_init__(self) -> None:
        within("theta", self.theta, 1e-6, 1e6)
        within("tau", self.tau, 0, 1)

    @property
    def sources(self) -> tuple[int, ...]:
        """The node that it reads."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Pool:
    """The largest value or the mean of every window; a mean counts the zeros around the map."""

    source: int
    how: How
    size: Pair
    stride: Pair
    padding: Pair = (0, 0)
    kind: ClassVar[str] = "pool"

    def __post_init__(self) -> None:
        _check_window(self.size, self.stride, self.padding)
        if max(2 * p - s for p, s in zip(self.padding, self.size, strict=True)) > 0:
            raise Refusal(f"padding {self.padding} exceeds half of {self.size}; take less of it")

    @property
    def sources(self) -> tuple[int, ...]:
        """The node that it reads."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Affine:
    """A scale and a shift of every channel: a norm that no convolution comes before."""

    source: int
    scale: np.ndarray
    shift: np.ndarray
    kind: ClassVar[str] = "affine"

    def __post_init__(self) -> None:
        _check_array("scale", self.scale, self.scale.shape[:1])
        _check_array("shift", self.shift, self.scale.shape)

    @property
    def sources(self) -> tuple[int, ...]:
        """The node that it reads."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Add:
    """The weighted sum of two maps."""

    left: int
    right: int
    scales: tuple[float, float] = (1.0, 1.0)
    kind: ClassVar[str] = "add"

    def __post_init__(self) -> None:
        for scale in self.scales:
            within("scale", scale, -1e12, 1e12)

    @property
    def sources(self) -> tuple[int, ...]:
        """The nodes that it reads."""
        return (self.left, self.right)


@dataclass(frozen=True, eq=False)
class Flatten:
    """A map as a row of features, channel after channel."""

    source: int
    kind: ClassVar[str] = "flatten"

    @property
    def sources(self) -> tuple[int, ...]:
        """The node that it reads."""
        return (self.source,)


Node = Input | Conv | Linear | Neurons | Pool | Affine | Add | Flatten
NODES: dict[str, type[Node]] = {
    cls.kind: cls for cls in (Input, Conv, Linear, Neurons, Pool, Affine, Add, Flatten)
}


def _check_array(name: str, value: np.ndarray, shape: Sequence[int]) -> None:
    if value.dtype != np.float32 or value.shape != tuple(shape):
        raise Refusal(
            f"{name} is {value.dtype} of shape {value.shape}; here it is float32 of shape "
            f"{tuple(shape)}; convert it"
        )
    _check_finite(name, value)


def _check_finite(name: str, value: np.ndarray) -> None:
    if not np.isfinite(value).all():
        raise Refusal(f"{name} hold NaN or infinity; they must be finite; take another checkpoint")


def _check_window(size: Sequence[int], stride: Pair, padding: Pair) -> None:
    for side, step, around in zip(size, stride, padding, strict=True):
        within("a window's side", side, 1, MOST_SIDE)
        within("a stride", step, 1, MOST_SIDE)
        within("a padding", around, 0, side - 1)
