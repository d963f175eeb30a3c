"""SDA, the sparse dynamic attack (CVPR 2025, arXiv 2503.03272), on many samples at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import answers, best_changes, flips, ranked, tried, undone
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat


@dataclass(frozen=True)
class SDA(Search):
    """Few flips: the gradient proposes, a trial of each alone disposes; then as many are undone.

    Iteration n tries the best ``grow * n`` changes one by one and makes those that do not hurt.
    The first point that fools the model is reduced. Growth may exceed the budget, for reduction
    may come back to it; it ends after ``steps`` iterations or at ``excess`` times the budget.
    At most ``batch`` trials share a forward pass.
    """

    steps: int = 500
    grow: int = 10
    excess: float = 4.0
    batch: int = 256
    kind: Literal["sda"] = "sda"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)

    @override
    def __call__(self, s: Standing) -> None:
        threat = flips(s)
        s.noise = s.uniform(s.x.shape[1:]) - 0.5
        s.worth = torch.zeros_like(s.x).flatten(1)
        most = int(threat.k * self.excess)
        for step in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            # An entry without a gradient is the last choice, not no choice.
            slope = torch.where(gradient.abs() > 0, gradient, 1e-30 * s.noise)
            s.fooled = self._grow(s, slope, self.grow * (step + 1), most)
            s.x = undone(s, s.x, s.fooled, s.worth, self.batch)
            s.look(s.x)
            spent = threat.size(s.x, s.clean) >= most
            s.keep((~(s.fooled | spent)).nonzero().squeeze(1))

    def _grow(self, s: Standing, slope: Tensor, tries: int, most: int) -> Tensor:
        """Makes the changes that pass their trial; returns (B,) which samples are fooled then."""
        threat, everyone = flips(s), torch.arange(len(s), device=s.x.device)
        change = threat.uphill(slope, s.x)
        change = torch.where(change * (s.x - s.clean) < 0, 0, change)  # never back to the clean
        change = best_changes(slope, change, tries).flatten(1)
        rows, places = change.nonzero(as_tuple=True)
        before = answers(s, s.x, everyone, self.batch)
        after = tried(s, s.x, rows, places, change[rows, places], self.batch)
        gain = torch.full_like(change, -torch.inf)
        gain[rows, places] = after - before[rows]
        left = (most - threat.size(s.x, s.clean)).long()
        one_suffices = before + gain.amax(1) >= 0
        count = torch.where(one_suffices, left.clamp_max(1), left)
        made = (gain >= 0) & (ranked(gain) < count[:, None])
        s.worth = torch.where(made & (change != 0), gain, s.worth)
        s.x = s.x + (change * made).reshape(s.x.shape)
        return answers(s, s.x, everyone, self.batch) >= 0
