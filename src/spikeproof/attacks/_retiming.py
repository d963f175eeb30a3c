"""Retiming: every event stays, at another time (threat and straight path: arXiv 2602.03284)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Retiming
from spikeproof.attacks._flip_trials import lively
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat, per_row


@dataclass(frozen=True)
class RetimingSearch(Search):
    """Moves packets of events to where a running mean of the gradient is larger.

    The model sees the strict arrangement of the moves that gain most; the gradient passes
    straight to its entries, those between which no packet moved included. ``momentum`` is the
    weight of the past.
    """

    steps: int = 40
    momentum: float = 0.9
    kind: Literal["retiming"] = "retiming"
    fits: ClassVar[tuple[type[Threat], ...]] = (Retiming,)
    climbs = True

    @override
    def __call__(self, s: Standing) -> None:
        s.noise = s.uniform(s.x.shape[1:]) - 0.5
        s.slope = torch.zeros_like(s.x)
        for _ in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            gradient = lively(gradient, s.noise)
            unit = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
            s.slope = self.momentum * s.slope + gradient / per_row(unit, gradient)
            s.x = _arranged(s)
        s.judge(s.x)


def _arranged(s: Standing) -> Tensor:
    if not isinstance(s.threat, Retiming):
        raise TypeError(f"{s.threat} does not move events in time")
    gain = s.clean[:, :, None] * (s.slope[:, None] - s.slope[:, :, None])
    return s.threat.arrange(gain, s.clean)
