"""HopSkipJump: a search by labels alone (Chen et al., 2020, https://arxiv.org/abs/1904.02144)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._losses import correct
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L2, Linf, per_row


@dataclass(frozen=True)
class HopSkipJump(Search):
    """Walks along the boundary towards the clean input; asks only whether an answer is wrong.

    It begins at the first wrong one of ``starts`` random images. Each round goes back to the
    boundary by ``halvings``, learns its normal from probes, and hops along it. A round that the
    ``queries`` do not pay for in full is not begun.
    """

    queries: int = 10_000
    starts: int = 100
    probes: int = 100
    halvings: int = 15
    kind: Literal["hop_skip_jump"] = "hop_skip_jump"
    fits = (Linf, L2)
    blind = True

    @override
    def __call__(self, s: Standing) -> None:
        s.best, s.found = s.clean, torch.zeros_like(s.y, dtype=torch.bool)
        for start in s.steps(self.starts):
            noise = s.uniform(s.x.shape[1:]).to(s.x.dtype)
            if start % 2:
                noise = noise.round()  # black and white reaches further than grey
            s.x = s.ball.low + (s.ball.high - s.ball.low) * noise
            first = _wrong(s) & ~s.found
            s.best = torch.where(per_row(first, s.x), s.x, s.best)
            s.found = s.found | first
        left, turn, probes = self.queries - self.starts - self.halvings, 1, self.probes
        while (left := left - 2 * self.halvings - probes) >= 0 and len(s):
            self._to_boundary(s)
            self._learn(s, probes)
            self._hop(s, turn)
            turn += 1
            probes = round(self.probes * math.sqrt(turn))
        self._to_boundary(s)

    def _to_boundary(self, s: Standing) -> None:
        s.outer = s.ball.size(s.best, s.clean)
        s.inner = torch.zeros_like(s.outer)
        for _ in s.steps(self.halvings):
            s.middle = (s.inner + s.outer) / 2
            s.x = _shrunk(s, s.middle)
            wrong = _wrong(s)
            s.outer = torch.where(wrong, s.middle, s.outer)
            s.inner = torch.where(wrong, s.inner, s.middle)
        s.best = _shrunk(s, s.outer)

    def _learn(self, s: Standing, probes: int) -> None:
        width = math.prod(s.x.shape[1:])
        reach = per_row(s.outer / width, s.x)
        s.voted, s.drawn = torch.zeros_like(s.x), torch.zeros_like(s.x)
        s.votes, s.reach = torch.zeros_like(s.outer), reach
        for _ in s.steps(probes):
            noise = 2 * s.uniform(s.x.shape[1:]) - 1
            s.x = s.ball.clip(s.best + s.reach * noise / per_row(_norm(noise), noise))
            s.trial = (s.x - s.best) / s.reach.clamp_min(1e-30)
            vote = 2.0 * _wrong(s) - 1
            s.voted, s.drawn = s.voted + per_row(vote, s.x) * s.trial, s.drawn + s.trial
            s.votes = s.votes + vote
        # The mean vote is a baseline that lowers the variance, unless all votes are the same.
        mean = torch.where(s.votes.abs() < probes, s.votes / probes, 0)
        s.normal = s.ball.steepest(s.voted - per_row(mean, s.x) * s.drawn)

    def _hop(self, s: Standing, turn: int) -> None:
        s.jump = s.outer / math.sqrt(turn)
        s.landed, s.start = torch.zeros_like(s.found), s.best
        for _ in s.steps(self.halvings):
            s.x = s.ball.clip(s.start + per_row(s.jump, s.x) * s.normal)
            lands = _wrong(s) & ~s.landed
            s.best = torch.where(per_row(lands, s.x), s.x, s.best)
            s.landed, s.jump = s.landed | lands, s.jump / 2


def _wrong(s: Standing) -> Tensor:
    return ~correct(s.look(s.x), s.y)


def _shrunk(s: Standing, radius: Tensor) -> Tensor:
    """Returns the best error so far, drawn towards the clean input until it is this near."""
    delta, limit = s.best - s.clean, per_row(radius, s.best)
    if isinstance(s.ball, Linf):
        return s.clean + torch.minimum(torch.maximum(delta, -limit), limit)
    return s.clean + delta * limit / per_row(_norm(delta), delta)


def _norm(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1).clamp_min(1e-30)
