"""Labelled samples in memory: one split, the three splits of a set, and how splits are cut."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spikeproof.errors import Refusal
from spikeproof.seeding import generator

TEST_SHARE = 0.2  # of a set that was published in one piece


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and labels in memory; ``x.float() * scale`` is what a model sees.

    Images are ``(N, C, H, W)`` and lie in [0, 1] once scaled; event counts are
    ``(N, T, C, H, W)`` and only have to be non-negative.
    """

    x: Tensor
    y: Tensor
    scale: float

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_values(self)

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the samples at these places as float32, scaled, and their labels."""
        return self.x[index].float() * self.scale, self.y[index]

    def digest(self) -> str:
        """Returns the SHA-256 of samples and labels: two splits that agree in it are equal."""
        seal = hashlib.sha256(f"{tuple(self.x.shape)} {self.x.dtype} {self.scale}".encode())
        for part in (self.x, self.y):
            seal.update(part.contiguous().view(torch.uint8).numpy().data)
        return seal.hexdigest()

    def take(self, index: Tensor) -> Split:
        """Returns the split that holds only these places, in this order."""
        return Split(self.x[index], self.y[index], self.scale)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set: three splits of equal sample shape, and the name of every class."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            split: Split = getattr(self, part)
            kind = (tuple(split.x.shape[1:]), split.x.dtype, split.scale)
            if kind != (self.shape, self.train.x.dtype, self.train.scale):
                raise Refusal(
                    f"{self.name}: {part} samples are {kind}, train samples are "
                    f"{(self.shape, self.train.x.dtype, self.train.scale)}; "
                    "shape, type and scale must agree; convert one like the other"
                )
            if (top := int(split.y.max())) >= len(self.classes):
                raise Refusal(
                    f"{self.name}: {part} has the label {top}; labels of "
                    f"{len(self.classes)} classes are 0..{len(self.classes) - 1}; renumber them"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: ``(C, H, W)``, or ``(T, C, H, W)`` for events."""
        return tuple(self.train.x.shape[1:])

    @property
    def events(self) -> bool:
        """Whether samples are event counts over time."""
        return len(self.shape) == 4

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of every channel over the scaled training samples."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of every channel over the scaled training samples."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        x = self.train.x.flatten(0, -4)
        total = squares = torch.zeros(x.shape[1], dtype=torch.float64)
        for part in x.split(4096):  # in float64, a whole set would be eight times its size
            if part.dtype == torch.uint8:
                sums = [_sums(channel) for channel in part.unbind(1)]
                added, more = torch.tensor(sums, dtype=torch.float64).T
            else:
                values = part.double()
                added, more = values.sum((0, 2, 3)), values.square().sum((0, 2, 3))
            total, squares = total + added, squares + more
        count, scale = x.numel() // x.shape[1], self.train.scale
        mean = total / count * scale
        std = (squares / count * scale**2 - mean.square()).clamp(min=0).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())


def _sums(levels: Tensor) -> tuple[int, int]:
    """Returns the sum of bytes and of their squares: of a byte, how often it occurs says all."""
    often = torch.bincount(levels.flatten(), minlength=256)
    level = torch.arange(256)
    return int((often * level).sum()), int((often * level.square()).sum())


def held_out(split: Split, share: float = 0.1, *, seed: int) -> tuple[Split, Split]:
    """Returns what is kept and what is held out, every class in proportion.

    At least one sample of every class is kept.
    """
    if not 0 < share < 1:
        raise Refusal(f"the share held out is {share}; it must lie between 0 and 1; try 0.1")
    chosen = _stratified(split.y, round(share * len(split)), seed, kept=1)
    if not len(chosen):
        raise Refusal(
            f"a share of {share:g} of {len(split)} samples holds none out; every class keeps one "
            "sample and a split needs one; raise the share or bring more samples"
        )
    left = torch.ones(len(split), dtype=torch.bool)
    left[chosen] = False
    return split.take(left.nonzero().flatten()), split.take(chosen)


def subset(split: Split, count: int, *, seed: int | None = None) -> Split:
    """Returns ``count`` samples, every class in proportion, in their old order.

    Without a seed they are the first ones of each class; with one they are drawn.
    """
    if not 1 <= count <= len(split):
        raise Refusal(f"{count} samples were asked of {len(split)}; ask for 1..{len(split)}")
    return split.take(_stratified(split.y, count, seed))


def three_ways(split: Split, validation: float, seed: int) -> tuple[Split, Split, Split]:
    """Returns train, validation and test of a set that came in one piece.

    The validation share is of what is no test; the test split is the same for every seed.
    """
    rest, test = held_out(split, TEST_SHARE, seed=0)
    return *held_out(rest, validation, seed=seed), test


def _stratified(y: Tensor, total: int, seed: int | None, *, kept: int = 0) -> Tensor:
    order = torch.arange(len(y))
    if seed is not None:
        order = torch.randperm(len(y), generator=generator(seed, "data", "stratified"))
    _, label, counts = y.unique(return_inverse=True, return_counts=True)
    grouped = order[label[order].argsort(stable=True)]
    quota, rest = counts * total // len(y), counts * total % len(y)
    quota[rest.argsort(descending=True, stable=True)[: total - int(quota.sum())]] += 1
    quota = quota.minimum(counts - kept)
    rank = torch.arange(len(y)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return grouped[rank < quota.repeat_interleave(counts)].sort().values


def _check_shapes(split: Split) -> None:
    x, y = split.x, split.y
    if x.ndim not in (4, 5) or not x.numel():
        raise Refusal(
            f"samples have the shape {tuple(x.shape)}; images are (N, C, H, W) and event counts "
            "(N, T, C, H, W), none of them empty; add or fill the missing axis"
        )
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise Refusal(
            f"{len(x)} samples come with labels of shape {tuple(y.shape)} and type {y.dtype}; "
            "each sample needs one int64 label; convert the labels or drop what has none"
        )
    if (low := int(y.min())) < 0:
        raise Refusal(f"a label is {low}; labels are class numbers from 0 on; renumber them")


def _check_values(split: Split) -> None:
    x, scale = split.x, split.scale
    if x.dtype not in (torch.uint8, torch.float32):
        raise Refusal(f"samples are {x.dtype}; they must be uint8 or float32; convert them")
    if not (math.isfinite(scale) and scale > 0):
        raise Refusal(f"the scale is {scale}; it must be a positive number; images use 1/255")
    low, high = (float(value) * scale for value in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Refusal(
            "samples hold NaN or infinite values; every pixel must be a number; "
            "repair or drop those samples"
        )
    if low < 0 or (x.ndim == 4 and high > 1):
        raise Refusal(
            f"samples span {low:g}..{high:g} once scaled; images lie in 0..1 and event counts "
            "are not negative; rescale them"
        )
