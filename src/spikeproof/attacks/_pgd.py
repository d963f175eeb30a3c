"""Projected gradient ascent (Madry et al., 2018, https://arxiv.org/abs/1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L2, Linf


@dataclass(frozen=True)
class PGD(Search):
    """``steps`` steepest steps from a random start.

    ``step_size`` is in units of the budget's norm; 0 takes ``2.5 eps / steps``.
    """

    steps: int = 10
    step_size: float = 0.0
    random_start: bool = True
    kind: Literal["pgd"] = "pgd"
    fits = (Linf, L2)
    climbs = True
    abreast = True

    @override
    def __call__(self, s: Standing) -> None:
        size = self.step_size or 2.5 * s.ball.eps / self.steps
        if self.random_start:
            s.x = s.ball.random(s.clean, s.uniform)
        for _ in s.steps(self.steps):
            gradient, _ = s.gradient(s.x)
            s.x = s.ball.project(s.x + size * s.ball.steepest(gradient), s.clean)
        s.judge(s.x)
