"""Gumbel-softmax over the events to add and to remove (GSAttack, ECCV 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import flips, lively
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat, per_row


@dataclass(frozen=True)
class Gumbel(Search):
    """Learns for every entry the odds of changing by one event: remove, nothing, or add.

    Choices are sampled with Gumbel noise; the likeliest changes are made, and the gradient passes
    to the odds through a softmax whose temperature falls from ``hot`` to ``cold``. The last point
    is drawn without noise. The projection keeps the budget, in place of the paper's price on
    changes.
    """

    steps: int = 100
    hot: float = 2.0
    cold: float = 0.1
    step_size: float = 0.5
    momentum: float = 0.9
    kind: Literal["gumbel"] = "gumbel"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)

    @override
    def __call__(self, s: Standing) -> None:
        threat = flips(s)
        s.noise = s.uniform(s.x.shape[1:]) - 0.5
        entries = max(1, s.x[:1].numel())
        s.odds = torch.zeros_like(s.x)[:, None].repeat(1, 3, *[1] * (s.x.dim() - 1))
        s.odds[:, 1] = math.log(max(1.0, 2 * entries / max(1, threat.k)))  # most stay as they are
        s.drift = torch.zeros_like(s.odds)
        for step in s.steps(self.steps):
            draw = s.uniform((3, *s.x.shape[1:])).clamp(1e-7, 1 - 1e-7)
            s.chances = _possible(s.odds, s.clean, threat) - torch.log(-torch.log(draw))
            s.x = threat.project(s.clean + _likeliest(s.chances), s.clean)
            gradient, _ = s.gradient(s.x)
            slope = _scaled(lively(gradient, s.noise))
            heat = self.hot * (self.cold / self.hot) ** (step / max(1, self.steps - 1))
            s.drift = self.momentum * s.drift + _scaled(_ascent(s.chances / heat, slope))
            s.odds = s.odds + self.step_size * s.drift
        wish = _likeliest(_possible(s.odds, s.clean, threat))
        s.look(threat.project(s.clean + wish, s.clean))


def _possible(odds: Tensor, x: Tensor, threat: Flips) -> Tensor:
    remove = torch.where(x > 0, odds[:, 0], -torch.inf)
    add = torch.where(x < threat.high, odds[:, 2], -torch.inf)
    return torch.stack([remove, odds[:, 1], add], 1)


def _likeliest(chances: Tensor) -> Tensor:
    """Returns the change of each entry: none or one event, up to 0.4 more where it is likelier."""
    remove, none, add = chances.unbind(1)
    lead = torch.maximum(remove, add) - none
    change = torch.where(add > remove, 1.0, -1.0) * (1 + 0.4 * lead / (1 + lead.abs()))
    return torch.where(lead > 0, change, 0.0)


def _ascent(chances: Tensor, slope: Tensor) -> Tensor:
    """Returns the gradient, at the chances, of the gain expected under their softmax."""
    odds = remove, _, add = chances.softmax(1).unbind(1)
    expected = slope * (add - remove)
    worth = (-slope, torch.zeros_like(slope), slope)
    return torch.stack([p * (w - expected) for p, w in zip(odds, worth, strict=True)], 1)


def _scaled(slope: Tensor) -> Tensor:
    return slope / per_row(slope.flatten(1).abs().amax(1).clamp_min(1e-30), slope)
