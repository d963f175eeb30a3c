"""Seven broken defences: what the checks must catch before anybody believes them.

Each wraps a network, answers as well as it does, and looks robust to careless attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from spikeproof.attacks import Threat
from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import decide
from spikeproof.evaluate._probes import probe
from spikeproof.evaluate._record import Check
from spikeproof.spiking import (
    BPTT,
    Spiking,
    SpikingNetwork,
    State,
    Triangle,
    seen_through,
    stream,
)


class _Double(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class NeedleSurrogate(_Double):
    """A surrogate so narrow that no neuron lies in it, whatever rule an attacker asks for."""

    width = 1e-6

    @override
    def forward(self, x: Tensor) -> Tensor:
        spiking = any(isinstance(module, Spiking) for module in self.model.modules())
        rule = BPTT(Triangle(self.width))  # the analog twin has no surrogate to replace
        return (seen_through(self.model, rule) if spiking else self.model)(x)


class QuantisedInput(_Double):
    """Inputs rounded to ``levels`` steps: the gradient of rounding is zero."""

    levels = 255

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.model(torch.round(x * self.levels) / self.levels)


class ScaledSoftmax(_Double):
    """Probabilities times 1000 in place of logits: the cross entropy saturates."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return 1000 * functional.softmax(self.model(x), dim=1)


class DropoutLeftOn(_Double):
    """Dropout of pixels that eval mode does not turn off."""

    share = 0.2

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.model(functional.dropout(x, self.share, training=True))


class StateNotReset(_Double):
    """Membranes that go on where the last batch left them; a batch of another size starts anew."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.before: State = State()

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(self.model, SpikingNetwork):
            raise Refusal(
                f"{type(self.model).__name__} hands out no state; this double needs one; "
                "wrap a SpikingNetwork"
            )
        membranes = self.before.membranes
        fits = all(len(membrane) == len(x) for membrane in membranes.values())
        start = State(0, membranes if fits else {})
        logits, after = stream(self.model, x, self.model.encode.T, start)
        self.before = State(0, {name: m.detach() for name, m in after.membranes.items()})
        return logits.mean(0)


class FlippedGradient(_Double):
    """A gradient of the wrong sign: attacks walk downhill."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.model(_Flipped.apply(x))


class NaNGuard(_Double):
    """NaN for every input off the grids of 16 and 255 levels: a crash dressed as a defence."""

    levels = 16 * 255

    @override
    def forward(self, x: Tensor) -> Tensor:
        steps = x.detach() * self.levels
        foreign = (steps - steps.round()).abs().flatten(1).amax(1) > 1e-3
        return torch.where(foreign[:, None], torch.nan, self.model(x))


class _Flipped(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, d_x: Tensor) -> Tensor:
        return -d_x


@dataclass(frozen=True)
class Planted:
    """A broken defence and the checks that must all raise a doubt about it."""

    name: str
    make: Callable[[nn.Module], nn.Module]
    caught: tuple[str, ...]


PLANTED = (
    Planted("needle surrogate", NeedleSurrogate, ("C7", "C14")),
    Planted("input quantiser", QuantisedInput, ("C7",)),
    Planted("softmax x 1000", ScaledSoftmax, ("C3", "C7")),
    Planted("dropout left on", DropoutLeftOn, ("C1", "C20")),
    Planted("state not reset", StateNotReset, ("C2",)),
    Planted("sign-flipped gradient", FlippedGradient, ("C10", "C17")),
    Planted("NaN guard", NaNGuard, ("C4",)),
)


def self_test(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    planted: Sequence[Planted] = PLANTED,
    every: bool = True,
    seed: int = 0,
) -> Check:
    """Returns C27: do the checks catch all that is planted in a network without a defence?

    With ``every``, each of the checks that are named must; else one of them, as some ask for more
    samples than are at hand.
    """
    missed = []
    for defect in planted:
        checks = probe(defect.make(model), x, y, threat, only=defect.caught, seed=seed)
        passed = [c.id for c in checks if c.id in defect.caught and c.verdict in ("pass", "na")]
        if every or len(passed) == len(defect.caught):
            missed += [f"{defect.name} passes {id}" for id in passed]
    return decide("C27", len(missed), "; ".join(missed) or f"all {len(planted)} were caught")


def fitting(model: nn.Module) -> tuple[Planted, ...]:
    """Returns what can be planted in a model: its spikes and its state must be known."""
    spiking = any(isinstance(module, Spiking) for module in model.modules())
    needs: dict[Callable[[nn.Module], nn.Module], bool] = {
        NeedleSurrogate: spiking,
        StateNotReset: isinstance(model, SpikingNetwork),
    }
    return tuple(defect for defect in PLANTED if needs.get(defect.make, True))
