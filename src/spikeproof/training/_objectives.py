"""What training makes small: functions of a network and a labelled batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.errors import Refusal, short, within

# Network, inputs, labels and the seed of the step's randomness, to the scalar that is made small.
Objective = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy of the mean logits; ``label_smoothing`` spreads that share over all classes."""

    label_smoothing: float = 0.0
    kind: Literal["cross_entropy"] = "cross_entropy"

    def __post_init__(self) -> None:
        check_share("label_smoothing", self.label_smoothing)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, _: int = 0) -> Tensor:
        return functional.cross_entropy(model(x), y, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class TET:
    """Temporal efficient training: every step of time is asked for the right class.

    ``(1 - lamb) * mean_t CE(logits_t, y) + lamb * MSE(logits_t, phi)``, the second term holding
    all logits near ``phi`` (Deng et al., ICLR 2022, https://arxiv.org/abs/2202.11946).
    The network must offer ``steps(x)``, its logits ``(T, B, K)`` before the mean over time.
    """

    lamb: float = 0.0
    phi: float = 1.0
    label_smoothing: float = 0.0
    kind: Literal["tet"] = "tet"

    def __post_init__(self) -> None:
        check_share("lamb", self.lamb)
        within("phi", self.phi, -1e6, 1e6)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, _: int = 0) -> Tensor:
        steps = getattr(model, "steps", None)
        if not callable(steps):
            raise Refusal(
                f"{type(model).__name__} has no method steps(x); the objective tet needs logits "
                "of every step of time (T, B, K); add it, or use the objective cross_entropy"
            )
        logits = steps(x)
        each = functional.cross_entropy(
            logits.flatten(0, 1), y.repeat(len(logits)), label_smoothing=self.label_smoothing
        )
        held = functional.mse_loss(logits, torch.full_like(logits, self.phi))
        return (1 - self.lamb) * each + self.lamb * held


def check_share(name: str, value: float) -> None:
    """Refuses a number that is no share."""
    if not 0 <= value <= 1:
        raise Refusal(
            f"{name} is {short(value)}; it is a share from 0 to 1; change it in the objective"
        )
