"""Neurons that stay as they are, with a gradient rule in the place of their surrogate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.interop._steps import Standing, Stepped, Trail, fire
from spikeproof.spiking import Rule

ATTRIBUTES = ("surrogate_function", "spike_grad")  # SpikingJelly, snnTorch


class Bare:
    """What is known of such a neuron: on which side of the threshold it fires."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict


class Curve(Stepped):
    """A surrogate by rule: takes distances from the threshold, and hands spikes back."""

    @property
    @override
    def theta(self) -> Tensor | float:
        raise Refusal(
            "an analog twin takes the place of neurons, and some of these stay as they are; the "
            "others know their threshold alone; choose a rule of surrogates, as bptt or assg"
        )

    @override
    def forward(self, distance: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and distance.requires_grad):
            return self.fires(distance)
        if self.averaged_or_cut(self.rule):
            raise Refusal(
                f"{self.rule.kind} changes how gradients travel in time, and some neurons stay as "
                "they are; only their surrogate can be exchanged; choose bptt, pdsg or assg"
            )
        self.trail = self.trail or Trail(self)
        return fire(distance, distance.detach(), self.trail)

    @staticmethod
    def averaged_or_cut(rule: Rule) -> bool:
        """Returns whether a rule asks for more than another curve."""
        return rule.averaged or not rule.temporal


class Lent(Standing):
    """Keeps a foreign neuron, awake: where eval mode drops its surrogate, it stays in training."""

    own = Standing.own | {"curve"}

    def __init__(self, theirs: nn.Module, rule: Rule | None, *, strict: bool = False) -> None:
        super().__init__(theirs)
        theirs.training = True
        self.curve: Curve | None = None
        if rule is not None:
            self.curve = Curve(Bare(strict=strict), rule)
            name = next(name for name in ATTRIBUTES if hasattr(theirs, name))
            vars(theirs).pop(name, None)  # a function, where a module comes
            setattr(theirs, name, self.curve)

    @override
    def forward(self, *inputs: Any, **named: Any) -> Any:
        theirs: Any = self.theirs
        if isinstance(self.curve, Curve) and hasattr(theirs, "detach_reset"):
            theirs.detach_reset = self.curve.rule.detach_reset
        return theirs(*inputs, **named)

    @override
    def train(self, mode: bool = True) -> Lent:
        super().train(mode)
        self.theirs.training = True
        return self
