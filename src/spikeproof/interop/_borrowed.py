"""The surrogate of another framework, asked for its slope."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.seeding import isolated
from spikeproof.spiking import (
    ATan,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
)

REACH = 12.0  # the table goes to sinh(12), about 81,000 thresholds
POINTS = 24_001


def curve_of(function: Callable[[Tensor], Tensor]) -> Surrogate:
    """Returns our curve where it has the slopes of this function, which is faster, or borrows."""
    with isolated(0):  # a surrogate may draw
        return _curve_of(Borrowed(function))


def _curve_of(borrowed: Borrowed) -> Surrogate:
    height, u = borrowed.height, torch.linspace(-5, 5, 2001)
    if not 1e-3 <= height <= 1e3:
        return borrowed
    slopes = borrowed.slope(u)
    for curve in (
        ATan(2 * height),
        Sigmoid(4 * height),
        Triangle(1 / height),
        Rectangle(1 / height),
        Gaussian(math.sqrt(2 * math.pi) * height),
        StraightThrough(),
    ):
        if torch.allclose(curve.slope(u), slopes, rtol=1e-5, atol=1e-6 * height):
            return curve
    return borrowed


@dataclass(frozen=True, eq=False)
class Borrowed(Surrogate):
    """Whatever ``function`` hands back of the gradient of its spikes.

    Its integral and widths are read from a table, which is finer near the threshold.
    """

    function: Callable[[Tensor], Tensor]
    kind: Literal["borrowed"] = "borrowed"

    @property
    @override
    def height(self) -> float:
        return float(self.slope(torch.zeros(1)))

    @override
    def slope(self, u: Tensor) -> Tensor:
        with torch.enable_grad():
            at = u.detach().clone().requires_grad_()
            spikes = self.function(at)
            if not spikes.requires_grad:  # a bare step
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(spikes.sum(), at)
        return slope.to(u.dtype)

    @override
    def primitive(self, u: Tensor) -> Tensor:
        at, mass = self._table
        place = torch.searchsorted(at, u.double().contiguous()).clamp(1, len(at) - 1)
        low, high = at[place - 1], at[place]
        share = ((u.double() - low) / (high - low)).clamp(0, 1)
        return (mass[place - 1] + share * (mass[place] - mass[place - 1])).to(u.dtype)

    @override
    def half_width(self, share: float) -> float:
        at, mass = self._table
        middle = len(at) // 2
        held = mass[middle:] - mass[: middle + 1].flip(0)
        place = int(torch.searchsorted(held, share * held[-1]).clamp(1, middle))
        low, high = held[place - 1 : place + 1].tolist()
        part = (share * float(held[-1]) - low) / (high - low) if high > low else 0.0
        near, far = at[middle + place - 1 : middle + place + 1].tolist()
        return near + part * (far - near)

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        at = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64).sinh()
        slopes = self.slope(at.float()).double()
        mass = torch.cumulative_trapezoid(slopes, at)
        return at, torch.cat([mass.new_zeros(1), mass])
