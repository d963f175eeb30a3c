"""What an attacker may change: a budget around the clean input, and the range of the sensor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.errors import Refusal

SLACK = 1e-6  # fp32: x + eps - x exceeds eps by 2e-9 in a few pixels of a hundred

Noise = Callable[[tuple[int, ...]], Tensor]  # shape of one sample to (B, *shape) in [0, 1)


class Threat(ABC):
    """A set of admissible inputs around each clean one; all tensors are (B, *F)."""

    kind: str

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns the nearest admissible input, or one as near as the search needs."""

    @abstractmethod
    def admits(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns (B,) whether each input is admissible, in fp32, whoever made it."""

    @abstractmethod
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns (B,) how much of the budget each input spends, in the budget's own unit."""

    @abstractmethod
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns a random admissible input that uses the budget."""

    def corner(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns a random extreme input, where the threat knows such."""
        return self.random(x, noise)


class Ball(Threat):
    """A norm ball of radius ``eps`` in units of the input range, cut by ``low`` and ``high``."""

    eps: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise Refusal(
                f"the range is {self.low}..{self.high}; it must rise between two numbers; "
                "images have 0..1"
            )
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise Refusal(f"eps is {self.eps}; a budget is a number from 0 on; take 8/255")

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """Returns the step of size 1 in this norm that rises most along the gradient."""

    def clip(self, x: Tensor) -> Tensor:
        """Returns the input cut to the range."""
        return x.clamp(self.low, self.high)

    @override
    def corner(self, x: Tensor, noise: Noise) -> Tensor:
        return self.project(x + self.eps * self.steepest(noise(x.shape[1:]) - 0.5), x)

    @override
    def admits(self, x_adv: Tensor, x: Tensor) -> Tensor:
        x_adv, x = x_adv.float(), x.float()
        rows = x_adv.flatten(1)
        inside = (rows >= self.low - SLACK) & (rows <= self.high + SLACK) & rows.isfinite()
        return inside.all(1) & (self.size(x_adv, x) <= self.eps + SLACK * max(1.0, self.eps))


@dataclass(frozen=True)
class Linf(Ball):
    """Every value may move by ``eps``."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    kind: Literal["linf"] = "linf"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps > self.high - self.low:
            raise Refusal(
                f"eps is {self.eps:g}; it is in units of the input range, which is "
                f"{self.low:g}..{self.high:g}; did you mean {self.eps:g}/255?"
            )

    @override
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self.clip(torch.minimum(torch.maximum(x_adv, x - self.eps), x + self.eps))

    @override
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).flatten(1).abs().amax(1)

    @override
    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    @override
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        return self.project(x + self.eps * (2 * noise(x.shape[1:]) - 1), x)


@dataclass(frozen=True)
class L2(Ball):
    """The change has a Euclidean norm of at most ``eps``."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    kind: Literal["l2"] = "l2"

    @override
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        delta = x_adv - x
        norm = per_row(delta.flatten(1).norm(dim=1), x).clamp_min(1e-30)
        return self.clip(x + delta * (self.eps / norm).clamp_max(1))

    @override
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).flatten(1).norm(dim=1)

    @override
    def steepest(self, gradient: Tensor) -> Tensor:
        norm = per_row(gradient.flatten(1).norm(dim=1), gradient)
        return torch.where(norm > 0, gradient / norm.clamp_min(1e-30), 0.0)

    @override
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        radius, angle = noise((2, *x.shape[1:])).unbind(1)
        gauss = (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)
        return self.project(x + self.eps * self.steepest(gauss), x)


@dataclass(frozen=True)
class L1(Ball):
    """The absolute changes sum to at most ``eps``."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    kind: Literal["l1"] = "l1"

    @override
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns the Euclidean projection onto ball and range together.

        Its change is ``clip(|d| - t, 0, room)`` for the one ``t >= 0`` that spends the budget,
        found by bisection: the sum falls with t.
        """
        delta = x_adv - x
        room = torch.where(delta < 0, x - self.low, self.high - x).flatten(1)
        size = delta.flatten(1).abs()
        low, high = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)
        fits = torch.minimum(size, room).sum(1, keepdim=True) <= self.eps
        for _ in range(40):
            middle = (low + high) / 2
            over = torch.minimum((size - middle).clamp_min(0), room).sum(1, keepdim=True) > self.eps
            low, high = torch.where(over, middle, low), torch.where(over, high, middle)
        shrunk = torch.minimum((size - high).clamp_min(0), room)
        kept = torch.where(fits, torch.minimum(size, room), shrunk)
        return self.clip(x + delta.sign() * kept.reshape(x.shape))

    @override
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).flatten(1).abs().sum(1)

    @override
    def steepest(self, gradient: Tensor) -> Tensor:
        rows = gradient.flatten(1)
        place = rows.abs().argmax(1, keepdim=True)
        return (
            torch.zeros_like(rows)
            .scatter(1, place, rows.gather(1, place).sign())
            .reshape(gradient.shape)
        )

    @override
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        radius, side = noise((2, *x.shape[1:])).unbind(1)
        laplace = -torch.log1p(-radius) * (side - 0.5).sign()
        total = per_row(laplace.flatten(1).abs().sum(1), x).clamp_min(1e-30)
        return self.project(x + self.eps * laplace / total, x)

    @override
    def corner(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns values in random order moved to an end, until the budget is spent."""
        order, side = noise((2, *x.shape[1:])).unbind(1)
        move = (torch.where(side < 0.5, self.low, self.high).to(x.dtype) - x).flatten(1)
        place = order.flatten(1).argsort(dim=1)
        room = move.abs().gather(1, place)
        left = self.eps - room.cumsum(1) + room
        length = torch.minimum(left.clamp_min(0), room)
        moved = torch.zeros_like(move).scatter(1, place, length) * move.sign()
        return self.project(x + moved.reshape(x.shape), x)


@dataclass(frozen=True)
class L0(Ball):
    """At most ``eps`` values may change, to anything in the range."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    kind: Literal["l0"] = "l0"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps != int(self.eps):
            raise Refusal(
                f"eps is {self.eps}; under L0 it counts the values that may change; "
                "take a whole number"
            )

    @override
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        delta = (self.clip(x_adv) - x).flatten(1)
        count = min(int(self.eps), delta.shape[1])
        place = delta.abs().topk(count, dim=1).indices
        kept = torch.zeros_like(delta).scatter(1, place, delta.gather(1, place))
        return torch.where(kept.reshape(x.shape) != 0, self.clip(x_adv), x)

    @override
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv != x).flatten(1).sum(1).to(x.dtype)

    @override
    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    @override
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        order, value = noise((2, *x.shape[1:])).unbind(1)
        order = order.flatten(1)
        count = min(int(self.eps), order.shape[1])
        place = order.topk(count, dim=1).indices
        chosen = torch.zeros_like(order, dtype=torch.bool).scatter(1, place, value=True)
        moved = self.low + (self.high - self.low) * value
        return torch.where(chosen.reshape(x.shape), moved.to(x.dtype), x)

    @override
    def corner(self, x: Tensor, noise: Noise) -> Tensor:
        moved = self.random(x, noise)
        end = torch.where(moved > (self.low + self.high) / 2, self.high, self.low)
        return torch.where(moved != x, end, x)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Returns one value per sample in a shape that meets all values of the sample."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
