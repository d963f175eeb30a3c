"""Learned layer budgets: HARP (Zhao and Wressnegger, 2023, https://arxiv.org/abs/2110.15766)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.compress._allocation import rounded
from spikeproof.compress._holding import Hold
from spikeproof.compress._layers import Part
from spikeproof.compress._masks import Masks, kept_count
from spikeproof.compress._patterns import Unstructured
from spikeproof.compress._pruning import check_sparsity
from spikeproof.compress._scores import Scores, Search, scores_of
from spikeproof.errors import Refusal, short, within

ROUNDING = 1e-6  # of a share in float32


class Budget(Scores):
    """Scores whose layer learns how many of its weights it keeps.

    The share is ``least + (1 - least) sigmoid(rate)``. Its gradient is the sum of the mask's.
    ``pressure`` is the factor of the penalty on the whole network's budget.
    """

    pressure: Tensor
    settled: Tensor

    def __init__(self, weight: Tensor, density: float, least: float, start: float) -> None:
        super().__init__(weight, weight.numel(), Unstructured())
        self.density, self.least = density, least
        odds = (start - least) / (1 - start)
        self.rate = nn.Parameter(weight.new_tensor(math.log(odds)))
        self.register_buffer("pressure", weight.new_zeros(()))
        self.register_buffer("settled", weight.new_zeros((), dtype=torch.bool))

    @override
    def share(self) -> Tensor:
        return self.least + (1 - self.least) * torch.sigmoid(self.rate)

    @override
    def count(self) -> int:
        return kept_count(self.scores.numel(), 1 - self.share().item())


@dataclass(frozen=True)
class Harp(Search):
    """Learned scores and learned layer budgets under a budget of all weights (paper B).

    No layer keeps less than ``floor`` of the density. The objective needs ``over_budget`` beside
    it, whose factor is ``gamma`` times the epoch, counted from 1, until one ends within the budget.
    Layers begin at the share ``start``, or at the density where that is more. What is handed out
    keeps the budget to the weight: one number is added to all rates.
    """

    sparsity: float = 0.9
    gamma: float = 1.0
    floor: float = 0.1
    start: float = 0.1
    dense: tuple[Part, ...] = ()
    kind: Literal["harp"] = "harp"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        within("gamma of harp", self.gamma, 0, 1e6)
        within("floor of harp", self.floor, 0, 0.99)
        if not self.floor * (1 - self.sparsity) < self._start() < 1:
            raise Refusal(
                f"sparsity is {short(self.sparsity)}, start {short(self.start)} and floor "
                f"{short(self.floor)}; a layer begins between its floor and all of its weights; "
                "take a sparsity above 0 and start 0.1"
            )

    def _start(self) -> float:
        return max(self.start, 1 - self.sparsity)

    @override
    def scored(self, name: str, weight: Tensor, keep: int) -> Scores:
        density = 1 - self.sparsity
        return Budget(weight, density, self.floor * density, self._start())

    @override
    def chosen(self, scores: dict[str, Scores]) -> Masks:
        layers = {name: s for name, s in scores.items() if isinstance(s, Budget)}
        sizes = {name: layer.scores.numel() for name, layer in layers.items()}
        total = kept_count(sum(sizes.values()), self.sparsity)
        rates = {name: layer.rate.item() for name, layer in layers.items()}
        counts = rounded(
            shifted(rates, sizes, self.floor * (1 - self.sparsity), total), total, sizes
        )
        pick = Unstructured().pick
        return Masks({n: pick(layer.scores.abs(), counts[n]) for n, layer in layers.items()})

    @override
    def hold(self, steps: int, epochs: int, seed: int = 0) -> Hold:
        per_epoch = max(1, steps // max(1, epochs))

        @torch.no_grad()
        def hold(model: nn.Module, _: torch.optim.Optimizer, step: int) -> None:
            if step % per_epoch:
                return
            # At the start the budget may be kept by construction, which settles nothing.
            kept = step > 0 and within_budget(model)
            for layer in budgets(model):
                layer.settled |= kept
                if not layer.settled:
                    layer.pressure.fill_(self.gamma * (step // per_epoch + 1))

        return hold


def over_budget(model: nn.Module) -> Tensor:
    """Returns HARP's penalty: the pressure times the share by which the budget is exceeded.

    The share is ``max(0, kept / (total * density) - 1)``, and differentiable in the rates.
    """
    return budgets(model)[0].pressure * over_density(model).clamp_min(0)


def within_budget(model: nn.Module) -> bool:
    """Tells whether the layers keep no more than the budget; only then is a search well advised."""
    return over_density(model).item() <= ROUNDING


def over_density(model: nn.Module) -> Tensor:
    """Returns ``kept / (total * density) - 1``."""
    layers = budgets(model)
    sizes = [layer.scores.numel() for layer in layers]
    kept = torch.stack([layer.share() * n for layer, n in zip(layers, sizes, strict=True)]).sum()
    return kept / (sum(sizes) * layers[0].density) - 1


def budgets(model: nn.Module) -> list[Budget]:
    """Returns the layers that learn their budgets."""
    layers = [scores for _, scores in scores_of(model) if isinstance(scores, Budget)]
    if not layers:
        raise Refusal(
            f"{type(model).__name__} has no learned budgets; they exist between begin and end of "
            "harp; call begin first"
        )
    return layers


def shifted(
    rates: dict[str, float], sizes: dict[str, int], least: float, total: int
) -> dict[str, float]:
    """Returns the layers' counts with one number added to all rates, so that they sum to total."""

    def counts(shift: float) -> dict[str, float]:
        return {n: sizes[n] * (least + (1 - least) * _sigmoid(r + shift)) for n, r in rates.items()}

    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        if sum(counts(middle).values()) > total:
            high = middle
        else:
            low = middle
    return counts(low)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
