"""RigL: connections that hardly matter make room for those that the gradient asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.compress._holding import Hold, holding
from spikeproof.compress._layers import Part
from spikeproof.compress._magnitude import Magnitude, cut
from spikeproof.compress._masks import TINY, Masks
from spikeproof.compress._patterns import Unstructured
from spikeproof.compress._pruning import Pruning, check_sparsity
from spikeproof.compress._random import RandomStatic
from spikeproof.errors import within


@dataclass(frozen=True)
class RigL(Pruning):
    """Rewiring by magnitude and gradient (Evci et al., 2020, https://arxiv.org/abs/1911.11134).

    Every ``every`` steps up to the share ``until`` of them, ``share/2 (1 + cos(pi t / end))`` of a
    layer's connections, the smallest, are dropped, and as many are grown where the gradient of
    that step is largest among those that are left out then. A grown weight starts at ``TINY``,
    downhill.
    """

    sparsity: float = 0.9
    every: int = 100
    share: float = 0.3
    until: float = 0.75
    allocation: Literal["layer", "erk"] = "erk"
    dense: tuple[Part, ...] = ()
    kind: Literal["rigl"] = "rigl"
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        within("every of rigl", self.every, 1, 1_000_000_000)
        within("share of rigl", self.share, 0, 1)
        within("until of rigl", self.until, 0, 1)

    @override
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        static = RandomStatic(self.sparsity, self.allocation, dense=self.dense)
        return static.masks(model, seed)

    @override
    def hold(self, steps: int, epochs: int, seed: int = 0) -> Hold:
        last = round(self.until * steps)

        def change(
            weights: Mapping[str, Tensor], now: Masks, _: torch.optim.Optimizer, step: int
        ) -> Masks:
            if step % self.every or step >= last:
                return now
            share = self.share / 2 * (1 + math.cos(math.pi * step / last))
            return Masks({n: rewired(w, now.kept[n], share) for n, w in weights.items()})

        return holding(change=change, dense=self.dense)

    @override
    def end(self, model: nn.Module) -> Masks:
        """Leaves the largest weights: a running mean has more than any one step had."""
        return cut(model, Magnitude(self.sparsity, self.allocation, dense=self.dense))


@torch.no_grad()
def rewired(weight: Tensor, kept: Tensor, share: float) -> Tensor:
    """Returns the new mask after one exchange, and starts the weights that are grown."""
    if weight.grad is None:
        return kept
    count = int(kept.sum())
    moved = int(share * count)
    size = torch.where(kept, weight.abs(), -1)
    staying = Unstructured().pick(size, count - moved)
    wanted = torch.where(staying, -1, weight.grad.abs())
    grown = Unstructured().pick(wanted, moved)
    new = grown & ~kept
    weight.copy_(torch.where(new, torch.where(weight.grad > 0, -TINY, TINY), weight))
    return staying | grown
