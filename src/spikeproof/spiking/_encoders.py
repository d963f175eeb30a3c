"""Encoders: what turns a sensor's values into the first layer's input, time first.

Attacks act on what the sensor delivers, so every encoder that makes spikes declares the slope it
pretends to have: its ``jacobian``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.errors import Refusal
from spikeproof.shapes import Folded


class Encoder(ABC):
    """Makes T steps of spikes out of images in [0, 1]."""

    static: ClassVar[bool] = False  # one value for all steps: time opens at the first neuron
    analog: ClassVar[bool] = False  # delivers values, not spikes: they may be normalised
    events: ClassVar[bool] = False  # takes frames (B, T, C, H, W) instead of images

    @abstractmethod
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        """Returns (T, B, C, H, W) of zeros and ones, or of weighted ones."""

    def jacobian(self, x: Tensor, steps: int) -> Tensor:
        """Returns the declared ``ds_t/dx``; the identity at every step unless said otherwise."""
        return torch.ones((steps, *[1] * x.dim()), dtype=x.dtype, device=x.device)


@dataclass(frozen=True)
class Direct(Encoder):
    """The image itself at every step, as current."""

    kind: Literal["direct"] = "direct"
    static = True
    analog = True

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        return x.expand(steps, *x.shape)


@dataclass(frozen=True)
class Poisson(Encoder):
    """A spike with the probability of the pixel at every step, independently; identity slope.

    Without a generator every call draws the same noise field for every sample from ``seed``: a
    frozen, deterministic network. ``drawing_from`` gives fresh noise for training and EOT.
    """

    seed: int = 0
    kind: Literal["poisson"] = "poisson"

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            shape: tuple[int, ...] = (steps, 1, *x.shape[1:])
            generator = seeding.generator(self.seed, "poisson")
        else:
            shape = (steps, *x.shape)
        noise = torch.rand(shape, generator=generator, device=generator.device)
        return (noise.to(x.device) < x).to(x.dtype)


@dataclass(frozen=True)
class Phase(Encoder):
    """The binary digits of the pixel, most significant first, again and again; identity slope.

    Plain spikes as paper C's code emits them, or ``weighted`` by ``2^-(1+k)``.
    """

    bits: int = 8
    weighted: bool = False
    kind: Literal["phase"] = "phase"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise Refusal(f"bits is {self.bits}; a phase code has 1 to 16 bits; take 8")

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        level = (x * (2**self.bits - 1)).round().clamp(0, 2**self.bits - 1).to(torch.int64)
        digits = [(level >> (self.bits - 1 - t % self.bits)) & 1 for t in range(steps)]
        return torch.stack(digits).to(x.dtype) * self._weights(x, steps)

    @override
    def jacobian(self, x: Tensor, steps: int) -> Tensor:
        return self._weights(x, steps)

    def _weights(self, x: Tensor, steps: int) -> Tensor:
        places = [2.0 ** -(1 + t % self.bits) if self.weighted else 1.0 for t in range(steps)]
        return torch.tensor(places, dtype=x.dtype, device=x.device).reshape(-1, *[1] * x.dim())


@dataclass(frozen=True)
class Rate(Encoder):
    """Spikes spread evenly, ``floor(T x)`` of them: the pixel as a rate, without noise."""

    kind: Literal["rate"] = "rate"

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        due = torch.stack([torch.floor(x * t + 1e-6) for t in range(steps + 1)])
        return due.diff(dim=0).clamp(0, 1)


@dataclass(frozen=True)
class Latency(Encoder):
    """One spike per pixel, the brighter the earlier: at step ``round((T - 1)(1 - x))``.

    Its slope is the difference of firing one step earlier and one step later, per step of delay;
    a spike at the edge of the train has one neighbour.
    """

    kind: Literal["latency"] = "latency"

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        clock = torch.arange(steps, device=x.device).reshape(-1, *[1] * x.dim())
        return (clock == self._time(x, steps)).to(x.dtype)

    @override
    def jacobian(self, x: Tensor, steps: int) -> Tensor:
        clock = torch.arange(steps, device=x.device).reshape(-1, *[1] * x.dim())
        time = self._time(x, steps)
        earlier, later = (time - 1).clamp_min(0), (time + 1).clamp_max(steps - 1)
        change = (clock == earlier).to(x.dtype) - (clock == later).to(x.dtype)
        return change * (steps - 1) / (later - earlier).clamp_min(1)

    def _time(self, x: Tensor, steps: int) -> Tensor:
        return ((steps - 1) * (1 - x)).round().clamp(0, steps - 1)


@dataclass(frozen=True)
class Frames(Encoder):
    """Event frames (B, T, C, H, W) as they are, one frame a step."""

    kind: Literal["frames"] = "frames"
    analog = True
    events = True

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        return x.transpose(0, 1)


@dataclass(frozen=True)
class Averaged(Encoder):
    """The mean of all event frames: what an analog network sees of a recording."""

    kind: Literal["averaged"] = "averaged"
    static = True
    analog = True
    events = True

    @override
    def spikes(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        return x.mean(1, keepdim=True).transpose(0, 1).expand(steps, -1, -1, -1, -1)


class _Declared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _: Tensor, spikes: Tensor, jacobian: Tensor) -> Tensor:
        ctx.save_for_backward(jacobian)
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, d_spikes: Tensor) -> tuple[Tensor, None, None]:
        (jacobian,) = ctx.saved_tensors
        return (jacobian * d_spikes).sum(0), None, None


class Encode(nn.Module):
    """The network's entrance: checks the input's shape, normalises it, and gives it its time.

    Normalisation is part of the model, so an attack's budget is in units of the sensor; spikes
    are not normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        steps: int,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        if steps < 1:
            raise Refusal(f"T is {steps}; a spike train has at least one step; take T = 4")
        if len(mean) != len(std) or not all(math.isfinite(s) and s > 0 for s in std):
            raise Refusal(
                f"mean {mean} and std {std}; one number per channel each, std positive; "
                "take the training set's"
            )
        self.encoder = encoder
        self.T = steps
        self.others: list[Poisson] = []  # whose noise later parts of the batch see
        self.generator: torch.Generator | None = None
        self.window = slice(None)
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    @override
    def forward(self, x: Tensor) -> Folded:
        events = self.encoder.events
        rank, axes = (5, "(B, T, C, H, W)") if events else (4, "(B, C, H, W)")
        if x.dim() != rank:
            raise Refusal(
                f"input of shape {tuple(x.shape)}; this network takes {axes}; add the missing "
                "axis, or choose a model for the other kind of input"
            )
        if events and not self.encoder.static and x.shape[1] != self.T:
            raise Refusal(
                f"{x.shape[1]} frames; this network runs T = {self.T} steps; frame the events "
                "anew, or view the model with over_time"
            )
        if self.encoder.analog:
            if len(self.mean) not in (1, x.shape[-3]):  # broadcasting would invent channels
                raise Refusal(
                    f"{x.shape[-3]} channels; this network normalises {len(self.mean)}; "
                    "convert the images, or choose a model for such input"
                )
            x = (x - self.mean) / self.std
        if self.encoder.static:
            return self.encoder.spikes(x, 1, None)[0]
        return self._spikes(x).flatten(0, 1)

    @property
    def noisy(self) -> bool:
        """Whether every call draws fresh noise."""
        return self.generator is not None and isinstance(self.encoder, Poisson)

    def redraw(self, *seeds: int) -> None:
        """Holds the noise of this seed, the same for all samples, from now on.

        Of several seeds, each is that of an equal part of the batch, one after the other.
        """
        self.encoder, self.generator = Poisson(seeds[0]), None
        self.others = [Poisson(seed) for seed in seeds[1:]]

    def _spikes(self, x: Tensor) -> Tensor:
        codes = [self.encoder, *self.others]
        parts = zip(codes, x.chunk(len(codes)), strict=True)
        drawn = [code.spikes(part, self.T, self.generator) for code, part in parts]
        spikes = torch.cat(drawn, 1) if self.others else drawn[0]
        if self.encoder.analog:
            return spikes[self.window]
        jacobian = self.encoder.jacobian(x.detach(), self.T)
        return _Declared.apply(x, spikes[self.window], jacobian[self.window])

    @override
    def extra_repr(self) -> str:
        mean, std = (value.flatten().tolist() for value in (self.mean, self.std))
        return f"{self.encoder}, T={self.T}, mean={mean}, std={std}"
