"""Runs of one search side by side in one batch: restarts, losses and gradient rules.

A batch of a few samples takes as long as one of many. So where few stand, a sample meets in one
batch what it would meet in turn. A lane is one run: a restart of an attack. Where a sample falls,
the lanes behind would not have met it and drop it at once; those before go on, as the first of
them to break it counts. What is returned is what one run after the other finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.attacks._crowd import Crowd
from spikeproof.attacks._losses import Loss
from spikeproof.attacks._standing import Outcome, Standing
from spikeproof.attacks._threat import Threat
from spikeproof.spiking import Rule


@dataclass(frozen=True)
class Lane:
    """One run of a search, for the attack of this number in a sequence."""

    attack: int
    loss: Loss
    rule: Rule | None
    seed: int
    names: tuple[str | int, ...]  # with a sample's id, they seed its noise


class Abreast(Standing):
    """Samples that stand in several lanes; the rows of a lane lie together, lane after lane."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        lanes: Sequence[Lane],
        ids: Sequence[int],
    ) -> None:
        count, n = len(lanes), len(y)
        parts = [(rule, len(list(same))) for rule, same in groupby(lane.rule for lane in lanes)]
        victim = Crowd(model, [rule for rule, _ in parts], [n * number for _, number in parts])
        seeds = [[seeding.derive(lane.seed, *lane.names, i) for i in ids] for lane in lanes]
        super().__init__(
            victim,
            x.repeat(count, *[1] * (x.dim() - 1)),
            y.repeat(count),
            threat,
            lanes[0].loss,
            torch.tensor(seeds, dtype=torch.int64, device=y.device).flatten(),
        )
        self.lane = torch.arange(count, device=y.device).repeat_interleave(n)
        self.sample = torch.arange(n, device=y.device).repeat(count)
        self._lanes = lanes
        self._first = torch.full_like(y, count)  # lane in which a sample fell

    def lanes(self) -> tuple[list[Outcome], Tensor]:
        """Returns each lane's outcome, and in which lane each sample fell first."""
        whole = self.outcome()
        fields = (whole.x_adv, whole.fallen, whole.at, whole.forwards, whole.backwards)
        parts = zip(*(field.chunk(len(self._lanes)) for field in fields), strict=True)
        return [Outcome(*part) for part in parts], self._first

    @override
    def _losses(self, logits: Tensor) -> Tensor:
        alike = [(loss, len(list(same))) for loss, same in groupby(x.loss for x in self._lanes)]
        edges = [0, *accumulate(number for _, number in alike)]
        rows = torch.searchsorted(self.lane, torch.tensor(edges, device=logits.device)).tolist()
        found = [
            loss(logits[..., low:high, :], self.y[low:high], self.target[low:high])
            for (loss, _), (low, high) in zip(alike, pairwise(rows), strict=True)
            if high > low
        ]
        return torch.cat(found)

    @override
    def _standing(self, fell: Tensor) -> Tensor:
        """Returns the rows of samples that fell neither here nor in a lane before."""
        self._first.scatter_reduce_(0, self.sample[fell], self.lane[fell], "amin")
        return (self.lane < self._first[self.sample]).nonzero().squeeze(1)
