"""Gradient rules: what a backward pass pretends, while the forward pass stays what it is.

A rule turns the trace of a forward pass into one slope for every spike, and says how the gradient
travels: along the membrane or not, through the reset or not, averaged over time or not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.errors import Refusal, short, within
from spikeproof.spiking._surrogates import ATan, Surrogate, Triangle


@dataclass(frozen=True, eq=False)
class Trace:
    """What one call of one layer leaves for a rule; tensors are (T, B, *F) and carry no graph."""

    current: Tensor
    membrane: Tensor  # before the reset
    spikes: Tensor
    theta: Tensor | float
    tau: Tensor | float

    @property
    def distance(self) -> Tensor:
        """The membrane's distance from the threshold."""
        return self.membrane - self.theta


Means = tuple[Tensor, Tensor]


class Memory:
    """What an adaptive rule remembers of every spiking element from one attack step to the next.

    The first axis after time is the sample: ``keep`` follows an attack that drops samples.
    """

    def __init__(self) -> None:
        self._means: Means | None = None
        self._late: Callable[[], Means] | None = None
        self.frozen = False

    @property
    def means(self) -> Means | None:
        """Running means of distance and deviation; what is late is found now."""
        if self._late is not None:
            self.means = self._late()
        return self._means

    @means.setter
    def means(self, means: Means | None) -> None:
        self._means, self._late = means, None

    def later(self, find: Callable[[], Means]) -> None:
        """Takes the means from there when they are asked for."""
        self._late = find

    def keep(self, index: Tensor) -> None:
        """Goes on with these samples only, in this order."""
        if self.means is not None:
            mean, deviation = self.means
            self.means = mean[:, index], deviation[:, index]

    def forget(self) -> None:
        """Starts anew, as for a new batch."""
        self.means = None

    def __getstate__(self) -> dict[str, object]:
        return {"_means": self.means, "_late": None, "frozen": self.frozen}


class Rule(ABC):
    """How gradients pass a layer of neurons."""

    kind: str
    temporal: bool = True  # along the membrane, from one step to the one before
    averaged: bool = False  # the gradient of the current replaced by its mean over time
    detach_reset: bool = False

    @abstractmethod
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        """Returns the factor of each spike's incoming gradient, shape (T, B, *F) or (1, B, *F)."""

    def memory(self) -> Memory | None:
        """Returns a fresh memory where the rule needs one."""
        return None


@dataclass(frozen=True)
class BPTT(Rule):
    """Backpropagation through time with a surrogate's slope."""

    surrogate: Surrogate = field(default_factory=Triangle)
    detach_reset: bool = False
    kind: Literal["bptt"] = "bptt"

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        return self.surrogate.slope(trace.distance)


@dataclass(frozen=True)
class BPTR(Rule):
    """Backward pass through rate: 1 where a neuron fired at all, else 0; no path in time.

    The indicator of SNN-RAT (Ding et al., NeurIPS 2022) and of paper B. Other code calls the
    rule below by this name.
    """

    kind: Literal["bptr"] = "bptr"
    temporal = False

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        return trace.spikes.mean(0, keepdim=True).gt(0).to(trace.spikes.dtype)


@dataclass(frozen=True)
class RGA(Rule):
    """Rate gradient approximation (Bu et al., CVPR 2023): slope of the rate in the mean current.

    With mean current c: ``gamma`` for ``0 <= c <= (1-tau) theta``, the chord to ``beta theta``
    above it, and 0 elsewhere.
    """

    gamma: float = 0.2
    beta: float = 2.0
    kind: Literal["rga"] = "rga"
    temporal = False

    def __post_init__(self) -> None:
        within("gamma of rga", self.gamma, 0, 1e6)
        if not 1 < self.beta <= 1e6:  # the chord ends at beta theta, above its foot
            raise Refusal(
                f"beta of rga is {short(self.beta)}; it must be above 1 and at most 1e6; take 2.0"
            )

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        current, theta, tau = trace.current.mean(0, keepdim=True), trace.theta, trace.tau
        foot = (1 - tau) * theta
        chord = (1 - self.gamma * theta + self.gamma * theta * tau) / (
            (tau + self.beta - 1) * theta
        )
        slope = torch.zeros_like(current)
        slope = torch.where((current >= 0) & (current <= foot), self.gamma, slope)
        return torch.where((current > foot) & (current <= self.beta * theta), chord, slope)


@dataclass(frozen=True)
class HART(Rule):
    """Hybrid of rate and temporal information (Hao et al., ICLR 2024).

    The membrane's recursion is cut and the gradient of the current is replaced by its mean over
    time; a wide triangle keeps rate information, a narrow one temporal information.
    """

    surrogate: Surrogate = field(default_factory=Triangle)
    kind: Literal["hart"] = "hart"
    temporal = False
    averaged = True

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        return self.surrogate.slope(trace.distance)


@dataclass(frozen=True)
class PDSG(Rule):
    """Potential-dependent surrogate: a normal density as wide as the potentials are spread.

    The spread is taken over space and all steps so far: per channel in feature maps, over all
    neurons of a flat layer (arXiv 2503.03272), and here per sample, so that a sample's gradient
    does not depend on its neighbours in the batch.
    """

    detach_reset: bool = False
    kind: Literal["pdsg"] = "pdsg"

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        u = trace.distance
        space = tuple(range(3, u.dim())) or (2,)
        size = math.prod(u.shape[axis] for axis in space)
        count = size * torch.arange(1, u.shape[0] + 1, device=u.device, dtype=torch.float64)
        count = count.reshape(-1, *[1] * (u.dim() - 1))
        wide = u.double()
        mean = wide.sum(space, keepdim=True).cumsum(0) / count
        square = wide.square().sum(space, keepdim=True).cumsum(0) / count
        variance = square - mean.square()
        constant = variance <= 1e-12 * square  # what rounding leaves of equal potentials
        sigma = torch.where(constant, 1.0, variance).sqrt().to(u.dtype)
        z = (u - sigma / 2) / sigma
        return torch.exp(-z.square() / 2) / (math.sqrt(2 * math.pi) * sigma)


@dataclass(frozen=True)
class ASSG(Rule):
    """Adaptive sharpness (arXiv 2512.22522): the sharpest curve whose gradient does not vanish.

    Every element keeps running means of its distance to the threshold (M) and of that distance's
    deviation (D) over the steps of an attack; its curve is sharpened by
    ``alpha = w / (M + rho D + 1e-4)``, where ``w`` is the half-width that holds the share
    ``vanishing`` of the curve's mass. The paper's ``a`` is ``vanishing / 2``.
    """

    surrogate: Surrogate = field(default_factory=lambda: ATan(1.0))
    vanishing: float = 0.85
    rho: float = 1.5
    beta_mean: float = 0.9
    beta_deviation: float = 0.9
    detach_reset: bool = True
    kind: Literal["assg"] = "assg"

    def __post_init__(self) -> None:
        if not 0 < self.vanishing < 1 or math.isinf(self.surrogate.half_width(self.vanishing)):
            raise Refusal(
                f"vanishing is {self.vanishing} with {type(self.surrogate).__name__}; the share "
                "lies strictly between 0 and 1 and needs a curve of finite mass; take 0.85 and ATan"
            )
        within("rho", self.rho, 0, 1e6)
        for name in ("beta_mean", "beta_deviation"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise Refusal(
                    f"{name} is {short(value)}; a mean keeps a share from 0 to below 1; take 0.9"
                )

    @override
    def memory(self) -> Memory:
        return Memory()

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        u = trace.distance
        mean, deviation = self._observe(u.abs(), memory or Memory())
        alpha = self.width / (mean + self.rho * deviation + 1e-4)
        return alpha * self.surrogate.slope(alpha * u)

    @property
    def width(self) -> float:
        """The curve's half-width that the sharpest slope still reaches."""
        return self.surrogate.half_width(self.vanishing)

    def recalled(self, shape: torch.Size, memory: Memory) -> Means | None:
        """Returns the means that the memory holds of potentials of this shape."""
        means = memory.means
        if means is not None and means[0].shape != shape:
            raise Refusal(
                f"the rule remembers potentials of shape {tuple(means[0].shape)} and now sees "
                f"{tuple(shape)}; its memory belongs to one batch; call keep_samples "
                "when samples leave it, or forget when a new one begins"
            )
        return means

    def _observe(self, distance: Tensor, memory: Memory) -> Means:
        known = self.recalled(distance.shape, memory)
        if known is not None and memory.frozen:
            return known
        old_mean, old_deviation = known or (torch.ones_like(distance), torch.zeros_like(distance))
        mean = self.beta_mean * old_mean + (1 - self.beta_mean) * distance
        deviation = (
            self.beta_deviation * old_deviation
            + (1 - self.beta_deviation) * (distance - mean).abs()
        )
        if not memory.frozen:
            memory.means = mean, deviation
        return mean, deviation


@dataclass(frozen=True)
class CBA:
    """Conversion-based approximation: the gradient of an analog twin with the same weights.

    Every layer of neurons becomes an activation of its mean current in units of its threshold:
    ``relu(c/theta)``, or the clip-floor ``floor(levels clip(c/theta, 0, 1) + 1/2) / levels`` with
    a straight-through slope. The only rule with a forward pass of its own.
    """

    activation: Literal["relu", "clip_floor"] = "relu"
    levels: int = 8
    kind: Literal["cba"] = "cba"
