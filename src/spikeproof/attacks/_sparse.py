"""A search under L0: the few values whose change pays most, chosen anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L0, per_row


@dataclass(frozen=True)
class SparseSearch(Search):
    """Moves the values of largest gain to an end of the range, all others back to clean.

    To first order, moving value i to an end v gains ``g_i (v - x_i)`` whatever the other values
    do; the best choice of ``eps`` values is the largest gains. g is a running mean of gradients
    along the way, so that choices that do not go together do not alternate for ever.
    """

    steps: int = 100
    decay: float = 0.75
    random_start: bool = False
    kind: Literal["sparse"] = "sparse"
    fits = (L0,)
    climbs = True
    abreast = True

    @override
    def __call__(self, s: Standing) -> None:
        ball = s.ball
        if self.random_start:
            s.x = ball.random(s.clean, s.uniform)
        s.mean = torch.zeros_like(s.x)
        for _ in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            size = gradient.flatten(1).abs().mean(1).clamp_min(1e-30)
            s.mean = self.decay * s.mean + gradient / per_row(size, gradient)
            end = torch.where(s.mean > 0, ball.high, ball.low)
            gain = (s.mean * (end - s.clean)).flatten(1)
            count = min(int(ball.eps), gain.shape[1])
            place = gain.topk(count, dim=1).indices
            chosen = torch.zeros_like(gain, dtype=torch.bool).scatter(1, place, value=True)
            chosen &= gain > 0
            s.x = torch.where(chosen.reshape(s.x.shape), end, s.clean)
        s.judge(s.x)
