"""Rewiring by noise: connections whose weight would change its sign go, random ones come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.compress._holding import Hold, holding
from spikeproof.compress._layers import Part, prunable
from spikeproof.compress._magnitude import Magnitude, cut
from spikeproof.compress._masks import TINY, Masks
from spikeproof.compress._patterns import Unstructured
from spikeproof.compress._pruning import Pruning, check_sparsity
from spikeproof.compress._random import RandomStatic, lots
from spikeproof.errors import within
from spikeproof.seeding import generator


@dataclass(frozen=True)
class SignSampler(Pruning):
    """Sampling of connectivity under fixed signs (Bellec et al., 2018, and paper B's group).

    Every weight has one sign for ever. After each step, Gaussian noise of deviation ``lr noise``
    is added to the connections; those whose sign has turned go dormant. As many dormant ones,
    layers drawn in proportion to their size, come back at ``TINY``: the sum over all layers stays.
    """

    sparsity: float = 0.9
    noise: float = 1e-3
    allocation: Literal["layer", "erk"] = "layer"
    dense: tuple[Part, ...] = ()
    kind: Literal["sign_sampler"] = "sign_sampler"
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        within("noise of sign_sampler", self.noise, 0, 1e6)

    @override
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        static = RandomStatic(self.sparsity, self.allocation, dense=self.dense)
        return static.masks(model, seed)

    @override
    @torch.no_grad()
    def begin(self, model: nn.Module, seed: int = 0) -> Masks:
        """Applies the masks, and gives every weight the sign that it has for ever."""
        masks = super().begin(model, seed)
        for name, weight in prunable(model, self.dense).items():
            weight.copy_(weight.abs() * signs(weight, seed, name))
        return masks

    @override
    def hold(self, steps: int, epochs: int, seed: int = 0) -> Hold:
        def change(
            weights: Mapping[str, Tensor], now: Masks, optimizer: torch.optim.Optimizer, step: int
        ) -> Masks:
            deviation = self.noise * optimizer.param_groups[0]["lr"]
            kept = {
                name: survivors(weight, now.kept[name], deviation, (seed, step, name))
                for name, weight in weights.items()
            }
            gone = now.weights - Masks(kept).weights
            for name, new in drawn(kept, gone, seed, step).items():
                fresh = TINY * signs(weights[name], seed, name)
                weights[name].data[new] = fresh[new]
                kept[name] = kept[name] | new
            return Masks(kept)

        return holding(change=change, dense=self.dense)

    @override
    def end(self, model: nn.Module) -> Masks:
        """Leaves the largest weights: a running mean has more than any one step had."""
        return cut(model, Magnitude(self.sparsity, "global", dense=self.dense))


def signs(weight: Tensor, seed: int, name: str) -> Tensor:
    """Returns 1 or -1 for every weight, by lot and for ever."""
    return torch.where(lots(weight, seed, "sign", name) < 0.5, -1.0, 1.0).to(weight.dtype)


@torch.no_grad()
def survivors(weight: Tensor, kept: Tensor, deviation: float, name: tuple[int, int, str]) -> Tensor:
    """Adds the noise and returns the connections that still have their sign."""
    seed, step, layer = name
    draw = generator(seed, "noise", step, layer)
    noise = torch.randn(weight.shape, generator=draw).to(weight.device, weight.dtype)
    weight.add_(noise * kept, alpha=deviation)
    return kept & (weight * signs(weight, seed, layer) > 0)


def drawn(kept: Mapping[str, Tensor], count: int, seed: int, step: int) -> dict[str, Tensor]:
    """Returns which dormant connections come back: ``count``, layers drawn by their size."""
    draw = generator(seed, "dormant", step)
    new = {name: torch.zeros_like(mask) for name, mask in kept.items()}
    while count:
        free = {name: ~(mask | new[name]) for name, mask in kept.items()}
        sizes = torch.tensor([float(f.numel() * bool(f.any())) for f in free.values()])
        tries = torch.multinomial(sizes, count, replacement=True, generator=draw)
        times = tries.bincount(minlength=len(sizes)).tolist()
        for (name, open_), wanted in zip(free.items(), times, strict=True):
            taken = min(wanted, int(open_.sum()))
            if taken:
                lot = torch.rand(open_.shape, generator=draw).to(open_.device)
                new[name] |= Unstructured().pick(torch.where(open_, lot, -1), taken)
                count -= taken
    return new
