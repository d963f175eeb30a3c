"""Sets of tensors between two bounds, and what linear layers make of them.

Bounds hold for every order in which a float32 pass may sum: with ``unit`` its rounding error, the
sum of n products is widened by ``n unit / (1 - n unit)`` of the sum of their magnitudes (Higham,
2002, section 3.1). Bounds themselves are computed in float64, whose own errors ``SPARE`` covers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.errors import Refusal

FLOAT32 = 2.0**-24
SPARE = 8  # roundings beyond those that are counted

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, eq=False)
class Interval:
    """All tensors from ``lower`` to ``upper``; ``clean``, where it is followed, is one of them."""

    lower: Tensor
    upper: Tensor
    clean: Tensor | None = None

    @property
    def largest(self) -> Tensor:
        """The largest magnitude of every entry."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def map(self, rising: Callable[[Tensor], Tensor]) -> Interval:
        """Returns the interval of a function that rises with every entry, without rounding."""
        clean = None if self.clean is None else rising(self.clean)
        return Interval(rising(self.lower), rising(self.upper), clean)

    def widened(self, error: Tensor | float) -> Interval:
        """Returns the interval with a margin on both sides."""
        return Interval(self.lower - error, self.upper + error, self.clean)


@dataclass(frozen=True, eq=False)
class Changes:
    """All tensors from ``low`` to ``high`` that differ from ``x`` by no more than a budget.

    ``l0`` counts the entries that differ, ``l1`` sums by how much. ``error`` is what rounding may
    have done to each entry, changed or not.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    budget: float
    norm: Literal["l0", "l1"]
    error: Tensor

    @property
    def interval(self) -> Interval:
        """The interval of every entry alone."""
        return Interval(self.low, self.high, self.x).widened(self.error)

    @property
    def largest(self) -> Tensor:
        """The largest magnitude of every entry."""
        return self.interval.largest

    def map(self, each: Callable[[Tensor], Tensor]) -> Changes:
        """Returns the changes seen in other axes, the same entries each."""
        values = (self.x, self.low, self.high, self.error)
        x, low, high, error = map(each, values)
        return replace(self, x=x, low=low, high=high, error=error)


def margin_of_sums(terms: int, unit: float) -> float:
    """Returns by what share of the summed magnitudes a sum of so many products may be off."""
    count = (terms + SPARE) * unit
    if count >= 0.5:
        raise Refusal(
            f"a sum of {terms} terms may be off by half of itself in float32; nothing follows of "
            "it; certify a network of narrower layers"
        )
    return count / (1 - count)


def affine(
    x: Interval, linear: Linear, weight: Tensor, bias: Tensor | None, unit: float
) -> Interval:
    """Returns the interval after a layer that is linear in its input and in its weight."""
    middle, radius = (x.lower + x.upper) / 2, (x.upper - x.lower) / 2
    centre, spread = linear(middle, weight, bias), linear(radius, weight.abs(), None)
    clean = None if x.clean is None else linear(x.clean, weight, bias)
    out = Interval(centre - spread, centre + spread, clean)
    if not unit:
        return out
    size = linear(x.largest, weight.abs(), None if bias is None else bias.abs())
    return out.widened(size * margin_of_sums(weight[0].numel(), unit))


def changed_dense(x: Changes, layer: nn.Linear, unit: float) -> Interval:
    """Returns the interval of a dense layer under changes of few entries of its input."""
    return _changed(
        x.map(lambda rows: rows[..., None]), layer.weight, layer.bias, unit, lambda out: out[..., 0]
    )


def changed_convolution(x: Changes, layer: nn.Conv2d, unit: float) -> Interval:
    """Returns the interval of a convolution under changes of few entries of its input.

    Every output is a sum over its own patch, in which all changes may lie.
    """
    # strings of padding are refused before
    knobs: Any = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    sides = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, d, p, s in zip(x.x.shape[-2:], *knobs, strict=True)
    ]
    patches = x.map(lambda image: functional.unfold(image, *knobs))
    weight = layer.weight.flatten(1)
    return _changed(patches, weight, layer.bias, unit, lambda out: out.unflatten(-1, sides))


def _changed(
    x: Changes,
    weight: Tensor,
    bias: Tensor | None,
    unit: float,
    shaped: Callable[[Tensor], Tensor],
) -> Interval:
    """Returns bounds of ``weight @ patches``, which are (B, n, places)."""
    shift = 0.0 if bias is None else bias[:, None]
    value = weight @ x.x + shift
    up, down = (_gain(x, side * weight) for side in (1, -1))
    out = Interval(value - down, value + up, value)
    if unit:
        size = weight.abs() @ x.largest + (0.0 if bias is None else bias.abs()[:, None])
        off = size * margin_of_sums(weight.shape[1], unit) + weight.abs() @ x.error
        out = out.widened(off)
    return Interval(shaped(out.lower), shaped(out.upper), shaped(value))


def _gain(x: Changes, weight: Tensor) -> Tensor:
    """Returns the most by which changes can raise each output."""
    ends = weight.clamp_min(0)[..., None], weight.clamp_max(0)[..., None]
    gains = ends[0] * (x.high - x.x)[:, None] + ends[1] * (x.low - x.x)[:, None]
    if x.norm == "l0":
        return gains.topk(min(int(x.budget), gains.shape[2]), dim=2).values.sum(2)
    return torch.minimum(gains.sum(2), x.budget * weight.abs().amax(1)[:, None])
