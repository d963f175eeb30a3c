"""Momentum iterative FGSM (Dong et al., 2018, https://arxiv.org/abs/1710.06081)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L2, Linf, per_row


@dataclass(frozen=True)
class MIFGSM(Search):
    """Steps from the clean input along a sum of past gradients, each of mean size 1.

    ``step_size`` is in units of the budget's norm; 0 takes ``eps / steps``.
    """

    steps: int = 10
    decay: float = 1.0
    step_size: float = 0.0
    kind: Literal["mifgsm"] = "mifgsm"
    fits = (Linf, L2)
    climbs = True
    abreast = True

    @override
    def __call__(self, s: Standing) -> None:
        size = self.step_size or s.ball.eps / self.steps
        s.momentum = torch.zeros_like(s.x)
        for _ in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            mean = gradient.flatten(1).abs().mean(1).clamp_min(1e-30)
            s.momentum = self.decay * s.momentum + gradient / per_row(mean, gradient)
            s.x = s.ball.project(s.x + size * s.ball.steepest(s.momentum), s.clean)
        s.judge(s.x)
