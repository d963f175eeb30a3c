"""A step forwards, a slope backwards: the curves that stand in for the derivative of a spike.

Every curve is a function of ``u``, the distance of the membrane from its threshold. ``primitive``
is its integral, so a neuron that fires ``primitive(u)`` has exactly ``slope(u)`` as derivative.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.errors import within


def heaviside(u: Tensor) -> Tensor:
    """Returns 1 where ``u >= 0`` and 0 elsewhere, NaN included."""
    return (u >= 0).to(u.dtype)


def _positive(value: float, what: str) -> None:
    within(what, value, 1e-6, 1e6)  # beyond them, squares and quotients leave float32


class Surrogate(ABC):
    """A curve that knows its own height and widths, so that families can be compared."""

    @property
    @abstractmethod
    def height(self) -> float:
        """The slope at the threshold."""

    @abstractmethod
    def slope(self, u: Tensor) -> Tensor:
        """Returns the derivative used in place of the step's."""

    @abstractmethod
    def primitive(self, u: Tensor) -> Tensor:
        """Returns the integral of the slope from minus infinity."""

    @abstractmethod
    def half_width(self, share: float) -> float:
        """Returns ``w`` such that ``|u| <= w`` holds this share of the mass."""

    @property
    def half_mass_width(self) -> float:
        """Width of the interval around the threshold that holds half of the mass."""
        return 2 * self.half_width(0.5)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """``max(0, gamma - |u|) / gamma^2``; the training curve of papers A and B at gamma 1."""

    gamma: float = 1.0
    kind: Literal["triangle"] = "triangle"

    def __post_init__(self) -> None:
        _positive(self.gamma, "gamma of a triangle")

    @property
    @override
    def height(self) -> float:
        return 1 / self.gamma

    @override
    def slope(self, u: Tensor) -> Tensor:
        return (self.gamma - u.abs()).clamp_min(0) / self.gamma**2

    @override
    def primitive(self, u: Tensor) -> Tensor:
        v = (u / self.gamma).clamp(-1, 1)
        return 0.5 + v - 0.5 * v * v.abs()

    @override
    def half_width(self, share: float) -> float:
        return self.gamma * (1 - math.sqrt(1 - share))


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """``1/width`` where ``|u| < width/2``."""

    width: float = 1.0
    kind: Literal["rectangle"] = "rectangle"

    def __post_init__(self) -> None:
        _positive(self.width, "width of a rectangle")

    @property
    @override
    def height(self) -> float:
        return 1 / self.width

    @override
    def slope(self, u: Tensor) -> Tensor:
        return (u.abs() < self.width / 2).to(u.dtype) / self.width

    @override
    def primitive(self, u: Tensor) -> Tensor:
        return (u / self.width + 0.5).clamp(0, 1)

    @override
    def half_width(self, share: float) -> float:
        return share * self.width / 2


@dataclass(frozen=True)
class ATan(Surrogate):
    """``(alpha/2) / (1 + (pi alpha u / 2)^2)``; never zero, the curve of paper C at alpha 2."""

    alpha: float = 2.0
    kind: Literal["atan"] = "atan"

    def __post_init__(self) -> None:
        _positive(self.alpha, "alpha of an arctan")

    @property
    @override
    def height(self) -> float:
        return self.alpha / 2

    @override
    def slope(self, u: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * u) ** 2)

    @override
    def primitive(self, u: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * u) / math.pi + 0.5

    @override
    def half_width(self, share: float) -> float:
        return 2 / (math.pi * self.alpha) * math.tan(math.pi / 2 * share)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """``alpha s(alpha u) (1 - s(alpha u))`` with the logistic ``s``."""

    alpha: float = 4.0
    kind: Literal["sigmoid"] = "sigmoid"

    def __post_init__(self) -> None:
        _positive(self.alpha, "alpha of a sigmoid")

    @property
    @override
    def height(self) -> float:
        return self.alpha / 4

    @override
    def slope(self, u: Tensor) -> Tensor:
        v = self.alpha * u  # 1 - s(v) would lose what s(-v) keeps of the tail
        return self.alpha * (torch.sigmoid(v) * torch.sigmoid(-v))

    @override
    def primitive(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * u)

    @override
    def half_width(self, share: float) -> float:
        return 2 * math.atanh(share) / self.alpha


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """The normal density with standard deviation ``1/alpha``."""

    alpha: float = math.sqrt(2 * math.pi)
    kind: Literal["gaussian"] = "gaussian"

    def __post_init__(self) -> None:
        _positive(self.alpha, "alpha of a Gaussian")

    @property
    @override
    def height(self) -> float:
        return self.alpha / math.sqrt(2 * math.pi)

    @override
    def slope(self, u: Tensor) -> Tensor:
        return self.height * torch.exp(-((self.alpha * u) ** 2) / 2)

    @override
    def primitive(self, u: Tensor) -> Tensor:
        return (1 + torch.erf(self.alpha / math.sqrt(2) * u)) / 2

    @override
    def half_width(self, share: float) -> float:
        root = torch.erfinv(torch.tensor(share, dtype=torch.float64)).item()
        return math.sqrt(2) * root / self.alpha


@dataclass(frozen=True)
class Exponential(Surrogate):
    """``a exp(-beta |u|)``; paper B attacks with a in {0.3, 1} and beta in {0.5, 1, 2}.

    Its mass is ``2a/beta``, which is 1 only where ``a = beta/2``.
    """

    a: float = 1.0
    beta: float = 2.0
    kind: Literal["exponential"] = "exponential"

    def __post_init__(self) -> None:
        _positive(self.a, "a of an exponential")
        _positive(self.beta, "beta of an exponential")

    @property
    @override
    def height(self) -> float:
        return self.a

    @override
    def slope(self, u: Tensor) -> Tensor:
        return self.a * torch.exp(-self.beta * u.abs())

    @override
    def primitive(self, u: Tensor) -> Tensor:
        half = self.a / self.beta
        tail = half * torch.exp(-self.beta * u.abs())
        return torch.where(u < 0, tail, 2 * half - tail)

    @override
    def half_width(self, share: float) -> float:
        return -math.log1p(-share) / self.beta


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """1 everywhere: the spike's derivative is the identity's.

    Its mass is infinite, so its widths are too; its primitive is ``u + 1/2``, which has the value
    of the other curves at the threshold.
    """

    kind: Literal["straight_through"] = "straight_through"

    @property
    @override
    def height(self) -> float:
        return 1.0

    @override
    def slope(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    @override
    def primitive(self, u: Tensor) -> Tensor:
        return u + 0.5

    @override
    def half_width(self, share: float) -> float:
        return math.inf if share > 0 else 0.0
