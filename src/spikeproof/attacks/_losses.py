"""What an attacker climbs: one number per sample, larger when the answer is worse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override


def correct(logits: Tensor, y: Tensor) -> Tensor:
    """Returns (B,) whether the label's logit is above all others; a tie, or NaN, is an error."""
    return margins(logits, y) < 0


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Returns (B,) the best other logit less the label's: positive where the answer is wrong."""
    own = logits.gather(-1, y[:, None]).squeeze(-1)
    others = logits.scatter(-1, y[:, None], -torch.inf)
    return others.amax(-1) - own


class Loss(ABC):
    """Logits and labels to (B,)."""

    kind: str
    per_step: bool = False  # takes (T, B, K) instead of their mean over time
    signed: bool = False  # 0 where the answer changes, positive where it is wrong
    targeted: bool = False  # aims at one wrong class

    @abstractmethod
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Returns the losses; ``target`` is the class that targeted losses aim at."""


@dataclass(frozen=True)
class CE(Loss):
    """Cross entropy of the label."""

    kind: Literal["ce"] = "ce"

    @override
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, y, reduction="none")


@dataclass(frozen=True)
class Margin(Loss):
    """The best other logit less the label's (Carlini and Wagner, 2017)."""

    kind: Literal["margin"] = "margin"
    signed = True

    @override
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        return margins(logits, y)


@dataclass(frozen=True)
class DLR(Loss):
    """Difference of logits ratio (Croce and Hein, 2020): the margin in units of z(1) - z(3).

    With two classes the unit is z(1) - z(2). Spiking logits are multiples of 1/T and can tie, so
    the unit is never below 1e-12.
    """

    kind: Literal["dlr"] = "dlr"
    signed = True

    @override
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        top = logits.topk(min(3, logits.shape[1]), dim=1).values
        return margins(logits, y) / (top[:, 0] - top[:, -1]).clamp_min(1e-12)


@dataclass(frozen=True)
class TargetedDLR(Loss):
    """Towards one class: ``(z_t - z_y) / (z(1) - (z(3) + z(4))/2)`` (Croce and Hein, 2020)."""

    kind: Literal["dlr_targeted"] = "dlr_targeted"
    signed = True
    targeted = True

    @override
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        top = logits.topk(min(4, logits.shape[1]), dim=1).values
        unit = top[:, 0] - top[:, 2:].mean(1) if top.shape[1] > 2 else top[:, 0] - top[:, 1]
        aimed = logits.gather(1, target[:, None]).squeeze(1)
        own = logits.gather(1, y[:, None]).squeeze(1)
        return (aimed - own) / unit.clamp_min(1e-12)


@dataclass(frozen=True)
class StepCE(Loss):
    """Cross entropy of every time step's logits, averaged: each step is asked to be wrong."""

    kind: Literal["step_ce"] = "step_ce"
    per_step = True

    @override
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        steps = len(logits)
        each = functional.cross_entropy(logits.flatten(0, 1), y.repeat(steps), reduction="none")
        return each.unflatten(0, (steps, -1)).mean(0)
