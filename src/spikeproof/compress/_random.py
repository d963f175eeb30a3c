"""Connections drawn by lot, which stay as they are: the baseline of every pruning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.compress._allocation import allocate
from spikeproof.compress._layers import Part, prunable
from spikeproof.compress._masks import Masks
from spikeproof.compress._patterns import Pattern, Unstructured
from spikeproof.compress._pruning import Pruning, check_sparsity
from spikeproof.seeding import generator


@dataclass(frozen=True)
class RandomStatic(Pruning):
    """Random connections from the start, in every layer the same share or as ERK has it."""

    sparsity: float = 0.9
    allocation: Literal["layer", "erk"] = "layer"
    pattern: Pattern = field(default_factory=Unstructured)
    dense: tuple[Part, ...] = ()
    kind: Literal["random_static"] = "random_static"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        self.pattern.check(self.sparsity, self.allocation)

    @override
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        weights = prunable(model, self.dense)
        counts = allocate(weights, self.sparsity, self.allocation)
        return Masks(
            {
                name: self.pattern.pick(lots(weight, seed, name), counts[name])
                for name, weight in weights.items()
            }
        )


def lots(weight: Tensor, seed: int, *names: str | int) -> Tensor:
    """Returns uniform numbers in the weight's shape, the same on every device."""
    draw = generator(seed, "lots", *names)
    return torch.rand(weight.shape, generator=draw).to(weight.device)
