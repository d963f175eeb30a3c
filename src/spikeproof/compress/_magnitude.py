"""Magnitude pruning: at once, or little by little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.compress._allocation import Allocation, allocate
from spikeproof.compress._holding import Hold, holding
from spikeproof.compress._layers import Part, prunable
from spikeproof.compress._masks import Masks, apply
from spikeproof.compress._patterns import Pattern, Unstructured
from spikeproof.compress._pruning import Pruning, check_sparsity
from spikeproof.errors import Refusal, short, within


@dataclass(frozen=True)
class Magnitude(Pruning):
    """The weights of the largest size stay (LWM); how many in a layer is the allocation's."""

    sparsity: float = 0.9
    allocation: Allocation = "layer"
    pattern: Pattern = field(default_factory=Unstructured)
    dense: tuple[Part, ...] = ()
    kind: Literal["magnitude"] = "magnitude"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        self.pattern.check(self.sparsity, self.allocation)

    @override
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        weights = prunable(model, self.dense)
        counts = allocate(weights, self.sparsity, self.allocation)
        return Masks({n: self.pattern.pick(w.abs(), counts[n]) for n, w in weights.items()})


@dataclass(frozen=True)
class Gradual(Pruning):
    """Magnitude pruning along a cubic (Zhu and Gupta, 2018, https://arxiv.org/abs/1710.01878).

    From the share ``begin`` of the steps to the share ``end``, with t running from 0 to 1 between
    them, ``sparsity (1 - (1 - t)^3)`` of the weights are gone, re-counted every ``every`` steps. At
    ``end`` it is ``sparsity``.
    """

    sparsity: float = 0.9
    begin_at: float = 0.0
    end_at: float = 0.75
    every: int = 100
    allocation: Allocation = "global"
    dense: tuple[Part, ...] = ()
    kind: Literal["gradual"] = "gradual"
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        within("every of gradual", self.every, 1, 1_000_000_000)
        if not 0 <= self.begin_at < self.end_at <= 1:
            raise Refusal(
                f"begin_at is {short(self.begin_at)} and end_at {short(self.end_at)}; they are "
                "rising shares of the steps from 0 to 1; take 0 and 0.75"
            )

    @override
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        weights = prunable(model, self.dense)
        return Masks({name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()})

    @override
    def hold(self, steps: int, epochs: int, seed: int = 0) -> Hold:
        first, last = round(self.begin_at * steps), max(1, round(self.end_at * steps))

        def change(
            weights: Mapping[str, Tensor], now: Masks, _: torch.optim.Optimizer, step: int
        ) -> Masks:
            if not first <= step <= last or (step != last and (step - first) % self.every):
                return now
            gone = self.sparsity * cubic((step - first) / max(1, last - first))
            counts = allocate(weights, gone, self.allocation)
            pick = Unstructured().pick
            return Masks({n: pick(w.abs(), counts[n]) & now.kept[n] for n, w in weights.items()})

        return holding(change=change, dense=self.dense)

    @override
    def end(self, model: nn.Module) -> Masks:
        """Prunes what is left to prune: the epoch that is best may be one before the last cut."""
        return cut(model, Magnitude(self.sparsity, self.allocation, dense=self.dense))


def cut(model: nn.Module, method: Magnitude) -> Masks:
    """Prunes a network that may have a few weights too many, and returns its masks."""
    masks = method.masks(model)
    apply(model, masks)
    return masks


def cubic(share: float) -> float:
    """Returns how much of the final sparsity there is after this share of the time."""
    return 1 - (1 - share) ** 3
