"""The sparse steps of Auto-PGD under L1 (Croce and Hein, 2021, https://arxiv.org/abs/2103.01208).

An L1 ball cut by the range has sparse corners: a step moves the steepest values alone, and their
number follows the sparsity of the best point.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L1, per_row


def climb_sparsely(s: Standing, steps: int) -> None:
    """Climbs from ``s.x`` in larger balls first, then in the threat's own."""
    if not isinstance(s.ball, L1):
        raise TypeError(f"{s.ball} is no L1 ball")
    for scale, part in ((3, 0.3), (2, 0.3), (1, 0.4)):
        wide = replace(s.ball, eps=scale * s.ball.eps)
        s.x = wide.project(s.x, s.clean)
        _climb(s, wide, max(round(part * steps), 1), every=max(int(0.04 * steps), 1))
        s.x = s.best


def _climb(s: Standing, ball: L1, steps: int, *, every: int) -> None:
    s.slope, s.height = s.gradient(s.x)
    s.best, s.best_slope, s.peak = s.x, s.slope, s.height
    width = s.x[0:1].numel() if len(s) else 1
    s.size = torch.full_like(s.height, ball.eps)
    s.moved, s.changed = (torch.full_like(s.height, n) for n in (0.2 * width, width))
    for step in s.steps(steps):
        _step(s, ball)
        s.slope, s.height = s.gradient(s.x)
        higher = s.height > s.peak
        rows = per_row(higher, s.x)
        s.best, s.peak = torch.where(rows, s.x, s.best), torch.where(higher, s.height, s.peak)
        s.best_slope = torch.where(rows, s.slope, s.best_slope)
        if (step + 1) % every == 0:
            _judge(s, ball)


def _step(s: Standing, ball: L1) -> None:
    rows = s.slope.flatten(1)
    order = rows.abs().argsort(dim=1, descending=True, stable=True).argsort(1)
    steep = torch.where(order < s.moved.clamp_min(1)[:, None], rows.sign(), 0)
    steep = steep / steep.abs().sum(1, keepdim=True).clamp_min(1)
    s.x = ball.project(s.x + per_row(s.size, s.x) * steep.reshape(s.x.shape), s.clean)


def _judge(s: Standing, ball: L1) -> None:
    changed = (s.best != s.clean).flatten(1).sum(1).to(s.height.dtype)
    sparser = changed < 0.95 * s.changed
    s.size = torch.where(sparser, ball.eps, (s.size / 1.5).clamp_min(ball.eps / 10))
    s.moved, s.changed = changed / 1.5, changed
    rows = per_row(sparser, s.x)
    s.x, s.slope = torch.where(rows, s.best, s.x), torch.where(rows, s.best_slope, s.slope)
