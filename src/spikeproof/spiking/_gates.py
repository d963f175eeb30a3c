"""Gates that let a spike pass by chance: the stochastic defence of StoG (AAAI 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.errors import within
from spikeproof.shapes import Folded


@dataclass(frozen=True)
class Gates:
    """After every layer of neurons a gate: ``s b`` with ``b`` 1 at the neuron's own, learned rate.

    Rates begin at ``rate`` and stay within ``low`` and 1. The gradient of a rate is that of the
    concrete relaxation at this temperature. The prior of the paper, ``gamma / 2`` times the sum of
    squared rates, is weight decay of ``gamma``.
    """

    rate: float = 1.0
    low: float = 0.1
    temperature: float = 0.5
    kind: Literal["stog"] = "stog"

    def __post_init__(self) -> None:
        within("low of stog", self.low, 1e-6, 1)
        within("rate of stog", self.rate, self.low, 1)
        within("temperature of stog", self.temperature, 1e-3, 1e3)


class Gate(nn.Module):
    """A layer of gates on (T*B, *F); its rates take their shape from the first input.

    Without a generator every call draws the same noise for every sample from a seed: a frozen,
    deterministic network. ``drawing_from`` gives fresh noise for training and EOT.
    """

    def __init__(self, gates: Gates, steps: int, place: int) -> None:
        super().__init__()
        self.gates, self.T, self.place = gates, steps, place
        self.generator: torch.Generator | None = None
        self.seeds: tuple[int, ...] = (0,)
        self.elapsed = 0
        self.rates = nn.Parameter(torch.empty(0))

    @property
    def noisy(self) -> bool:
        """Whether every call draws fresh noise."""
        return self.generator is not None

    def redraw(self, *seeds: int) -> None:
        """Holds the noise of this seed, the same for all samples, from now on.

        Of several seeds, each is that of an equal part of the batch, one after the other.
        """
        self.seeds, self.generator = seeds, None

    def open(self, shape: tuple[int, ...]) -> None:
        """Gives every neuron of this shape its rate."""
        self.rates = nn.Parameter(torch.full(shape, self.gates.rate))

    @override
    def forward(self, x: Folded) -> Folded:
        if not self.rates.numel():
            self.open(tuple(x.shape[1:]))
        spikes = x.unflatten(0, (self.T, -1))
        noise = self._noise(spikes).to(x.device)
        rates = self.rates.clamp(self.gates.low, 1)
        passes = (noise < rates).to(x.dtype)
        if torch.is_grad_enabled() and rates.requires_grad:
            relaxed = self._relaxed(rates, noise).to(x.dtype)
            passes = passes + (relaxed - relaxed.detach())
        return (spikes * passes).flatten(0, 1)

    def _relaxed(self, rates: Tensor, noise: Tensor) -> Tensor:
        edge = 1e-3  # logits of 0 and 1 are infinite
        logits = rates.clamp(max=1 - edge).logit() + noise.clamp(edge, 1 - edge).logit().neg()
        return (logits / self.gates.temperature).sigmoid()

    def _noise(self, spikes: Tensor) -> Tensor:
        if self.generator is not None:
            return torch.rand(spikes.shape, generator=self.generator, device=self.generator.device)
        fields = torch.stack([self._field(seed, len(spikes)) for seed in self.seeds], 1)
        each = spikes.shape[1] // len(self.seeds)
        return fields if len(self.seeds) == 1 else fields.repeat_interleave(each, 1)

    def _field(self, seed: int, steps: int) -> Tensor:
        times = range(self.elapsed, self.elapsed + steps)
        drawn = (seeding.generator(seed, "gate", self.place, t) for t in times)
        return torch.stack([torch.rand(self.rates.shape, generator=g) for g in drawn])

    @override
    def extra_repr(self) -> str:
        return f"{self.gates}, T={self.T}"
