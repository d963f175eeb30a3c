"""SpikeFool (Buechel et al., 2022, Front. Neurosci. 16:1068193): SparseFool for spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import best_changes, flips, lively
from spikeproof.attacks._losses import Margin
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat, per_row


@dataclass(frozen=True)
class SpikeFool(Search):
    """Finds the boundary with real numbers, and crosses its tangent plane with few events.

    Each of ``rounds``: up to ``inner`` Newton steps (DeepFool) on the margin of the nearest class
    reach a point of the boundary; then events change in the order of the plane's normal until
    the plane, ``distance`` times as far away, is crossed. The margin is the loss, whichever the
    attack names.
    """

    rounds: int = 4
    inner: int = 10
    overshoot: float = 0.02
    distance: float = 2.0
    least_step: float = 0.1
    kind: Literal["spikefool"] = "spikefool"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)

    @override
    def __call__(self, s: Standing) -> None:
        s.loss, threat = Margin(), flips(s)
        s.noise = s.uniform(s.x.shape[1:]) - 0.5
        for _ in s.steps(self.rounds):
            self._reach_boundary(s)
            change = threat.uphill(s.normal, s.x)
            gain = (s.normal * change).flatten(1).sort(dim=1, descending=True).values
            way = (s.normal * (s.point - s.x)).flatten(1).sum(1) * self.distance
            needed = (gain.cumsum(1) < way[:, None]).sum(1) + 1
            left = (threat.k - threat.size(s.x, s.clean)).long()
            change = best_changes(s.normal, change, torch.minimum(needed, left))
            s.x = s.x + change
            s.look(s.x)

    def _reach_boundary(self, s: Standing) -> None:
        s.point = s.x
        s.normal = torch.zeros_like(s.x)
        s.short = torch.ones_like(s.y, dtype=torch.bool)
        for _ in s.steps(self.inner):
            gradient, margin = s.gradient(s.point)
            slope = lively(gradient, s.noise)
            s.short &= margin < 0
            square = slope.flatten(1).square().sum(1).clamp_min(1e-30)
            length = (margin.abs() / square.sqrt()).clamp_min(self.least_step) / square.sqrt()
            step = per_row(torch.where(s.short, (1 + self.overshoot) * length, 0.0), slope)
            s.point = s.point + step * slope
            s.normal = torch.where(per_row(s.short, slope), slope, s.normal)
