"""Auto-PGD: no step size to choose (Croce and Hein, 2020, https://arxiv.org/abs/2003.01690)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._apgd_l1 import climb_sparsely
from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L1, L2, Linf, per_row


@dataclass(frozen=True)
class APGD(Search):
    """Ascent with momentum; a step size that does not pay is halved at the best point so far.

    With ``targets``, it climbs anew towards each of the best wrong classes at the clean input;
    the loss must then be a targeted one. Under L1 its steps are sparse.
    """

    steps: int = 100
    targets: int = 0
    kind: Literal["apgd"] = "apgd"
    fits = (Linf, L2, L1)
    climbs = True
    abreast = True

    @override
    def __call__(self, s: Standing) -> None:
        climb = climb_sparsely if isinstance(s.ball, L1) else _climb
        for _ in s.aims(self.targets):
            s.x = s.ball.random(s.clean, s.uniform)
            climb(s, self.steps)


def checkpoints(steps: int) -> Iterator[int]:
    """Counts the steps after which a step size is judged: .22 N apart, then ever closer."""
    share, gap = 22, 22  # in percent: whole numbers do not round
    while share <= 100:
        yield -(-steps * share // 100)
        gap = max(gap - 3, 6)
        share += gap


def _climb(s: Standing, steps: int) -> None:
    s.slope, s.height = s.gradient(s.x)
    s.before, s.best, s.best_slope, s.peak = s.x, s.x, s.slope, s.height
    s.size = torch.full_like(s.height, 2 * s.ball.eps)
    s.rises = torch.zeros_like(s.height)
    s.peak_then, s.halved_then = s.peak, torch.ones_like(s.height, dtype=torch.bool)
    judged, last = set(checkpoints(steps)), 0
    for step in s.steps(steps):
        _step(s, momentum=0.75 if step else 1.0)
        slope, height = s.gradient(s.x)
        s.rises = s.rises + (height > s.height)
        s.slope, s.height = slope, height
        higher = height > s.peak
        s.best, s.best_slope = _where(higher, s.x, s.best), _where(higher, slope, s.best_slope)
        s.peak = torch.where(higher, height, s.peak)
        if step + 1 in judged:
            _judge(s, step + 1 - last)
            last = step + 1
    s.x = s.best


def _step(s: Standing, momentum: float) -> None:
    ball = s.ball
    ahead = ball.project(s.x + per_row(s.size, s.x) * ball.steepest(s.slope), s.clean)
    moved = s.x + momentum * (ahead - s.x) + (1 - momentum) * (s.x - s.before)
    s.x, s.before = ball.project(moved, s.clean), s.x


def _judge(s: Standing, steps: int) -> None:
    stuck = ~s.halved_then & (s.peak <= s.peak_then)
    halve = (s.rises < 0.75 * steps) | stuck
    s.size = torch.where(halve, s.size / 2, s.size)
    s.x, s.slope = _where(halve, s.best, s.x), _where(halve, s.best_slope, s.slope)
    s.height = torch.where(halve, s.peak, s.height)
    s.halved_then, s.peak_then = halve, s.peak
    s.rises = torch.zeros_like(s.rises)


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(per_row(rows, yes), yes, no)
