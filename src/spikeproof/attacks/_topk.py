"""Iterated flips: gradient ascent whose iterates are projected onto at most k events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import flips, lively
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat, per_row


@dataclass(frozen=True)
class TopK(Search):
    """Gradients at the projection move a real-valued point that is projected again.

    The gradient passes the projection straight. Its running mean, of weight ``momentum`` for the
    past, is scaled so that the k-th best entry moves by a whole event, then by two, four and
    eight, and again: in counts, these spend the budget on ever fewer entries.
    """

    steps: int = 100
    momentum: float = 0.9
    kind: Literal["topk"] = "topk"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)
    climbs = True

    @override
    def __call__(self, s: Standing) -> None:
        threat = flips(s)
        s.noise = s.uniform(s.x.shape[1:]) - 0.5
        s.slope = torch.zeros_like(s.x)
        for step in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            gradient = lively(gradient, s.noise)
            unit = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
            s.slope = self.momentum * s.slope + gradient / per_row(unit, gradient)
            gain = (s.slope * threat.uphill(s.slope, s.clean)).flatten(1)
            rank = min(max(threat.k, 1), gain.shape[1])
            least = gain.topk(rank, dim=1).values[:, -1].clamp_min(1e-6)
            scale = per_row(2.0 ** (step % 4) / least, s.slope)
            s.x = threat.project(s.clean + scale * s.slope, s.clean)
        s.judge(s.x)
