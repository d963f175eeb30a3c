"""Stable adaptive PGD, the search made for ASSG's gradients (https://arxiv.org/abs/2512.22522)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._apgd import checkpoints
from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Linf, per_row

SMALLEST = 1e-30  # a gradient of zeros must stay one: 0/0 would be NaN


@dataclass(frozen=True)
class SAPGD(Search):
    """Sign steps that shrink by themselves where a value's gradient changes its sign.

    Its clip of every value's step is a construction for Linf.
    """

    steps: int = 100
    kind: Literal["sapgd"] = "sapgd"
    fits = (Linf,)
    climbs = True
    abreast = True

    @override
    def __call__(self, s: Standing) -> None:
        size = s.ball.eps
        noise = 2 * s.uniform(s.x.shape[1:]) - 1
        top = noise.flatten(1).abs().amax(1).clamp_min(SMALLEST)
        s.x = s.ball.project(s.clean + size * noise / per_row(top, noise), s.clean)
        s.momentum, s.square = torch.zeros_like(s.x), torch.zeros_like(s.x)
        halved = set(checkpoints(self.steps))
        for step in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            # Scaled to 1 first: the squares of small gradients would vanish in fp32.
            gradient = gradient / per_row(_largest(gradient), gradient)
            s.momentum = 0.5 * s.momentum + gradient / _mean(gradient.abs())
            s.square = 0.8 * s.square + gradient.square() / _mean(gradient.square())
            move = (size * s.momentum / (s.square.sqrt() + 1e-12)).clamp(-size, size)
            s.x = s.ball.project(s.x + move, s.clean)
            if step + 1 in halved:
                size /= 2
        s.judge(s.x)


def _largest(values: Tensor) -> Tensor:
    return values.flatten(1).abs().amax(1).clamp_min(SMALLEST)


def _mean(values: Tensor) -> Tensor:
    return per_row(values.flatten(1).mean(1).clamp_min(SMALLEST), values)
