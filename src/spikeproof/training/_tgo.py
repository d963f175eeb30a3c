"""TGO: membranes kept away from the threshold (ICLR 2026, https://arxiv.org/abs/2602.20548)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spikeproof.errors import within
from spikeproof.training._membranes import distances
from spikeproof.training._penalties import Pass


@dataclass(frozen=True)
class TGO:
    """Threshold guarding: ``lamb mean(max(0, delta - |u - theta|))`` over all neurons and steps.

    A spike is as hard to flip as its membrane is far from the threshold. The paper raises
    ``lamb`` along a cosine and adds noise to the neurons; here ``lamb`` is what it is all the
    time, and neurons have no noise.
    """

    lamb: float = 0.4
    delta: float = 0.5
    kind: Literal["tgo"] = "tgo"
    neurons: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("lamb", self.lamb, 0, 1e6)
        within("delta", self.delta, 1e-6, 1e6)

    def __call__(self, seen: Pass) -> Tensor:
        if self.lamb == 0:
            return seen.logits.new_zeros(())
        total, count = seen.logits.new_zeros(()), 0
        for distance in distances(seen, self.kind):
            total = total + (self.delta - distance.abs()).clamp_min(0).sum()
            count += distance.numel()
        return self.lamb * total / count
