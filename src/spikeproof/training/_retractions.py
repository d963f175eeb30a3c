"""What is done to the weights after every step: back towards a set that is known to be good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof.errors import within


@dataclass(frozen=True)
class Orthogonal:
    """``W <- (1 + beta) W - beta W W^T W``, a step towards orthogonal rows (SNN-RAT).

    A row is what makes one output of a convolution or dense layer. Of a dense layer of ``wide``
    outputs or more, only the share ``rows`` is moved, drawn anew at every step. A singular value
    s becomes ``s (1 + beta - beta s^2)``, which leaves 1 alone and draws others to it.
    """

    beta: float = 5e-4
    rows: float = 0.3
    wide: int = 200
    kind: Literal["orthogonal"] = "orthogonal"

    def __post_init__(self) -> None:
        within("beta of orthogonal", self.beta, 0, 0.5)
        within("rows of orthogonal", self.rows, 0, 1)
        within("wide of orthogonal", self.wide, 1, 1_000_000_000)

    def __call__(self, model: nn.Module, draw: torch.Generator) -> None:
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                weight = layer.weight.detach().flatten(1)
                if isinstance(layer, nn.Linear) and len(weight) >= self.wide:
                    order = torch.randperm(len(weight), generator=draw, device=draw.device)
                    some = order[: int(len(weight) * self.rows)].to(weight.device)
                    layer.weight.detach()[some] = self._moved(weight[some])
                else:
                    layer.weight.detach().copy_(self._moved(weight).view_as(layer.weight))

    def _moved(self, weight: Tensor) -> Tensor:
        return (1 + self.beta) * weight - self.beta * (weight @ weight.T) @ weight


@dataclass(frozen=True)
class Simplex:
    """The scalars of every merge to the nearest that are not negative and sum to one (SNN-RAT).

    A merge of branches is then a convex combination. Networks of one branch have none to move.
    """

    kind: Literal["simplex"] = "simplex"

    def __call__(self, model: nn.Module, _: torch.Generator) -> None:
        for scalars in _merges(model):
            scalars.copy_(_on_simplex(scalars))


Retraction = Orthogonal | Simplex


def _merges(model: nn.Module) -> Iterator[Tensor]:
    named = model.named_parameters()
    return (p.detach() for name, p in named if name.rpartition(".")[2] == "merge")


def _on_simplex(scalars: Tensor) -> Tensor:
    """Returns the nearest point of the simplex: all less one number, negative ones cut to 0."""
    falling = scalars.sort(descending=True).values
    count = torch.arange(1, len(scalars) + 1, device=scalars.device)
    excess = (falling.cumsum(0) - 1) / count
    kept = int((falling > excess).sum())
    return (scalars - excess[kept - 1]).clamp_min(0)
