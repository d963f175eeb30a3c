"""One step along the gradient: FGSM, and R-FGSM, which jumps at random first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L2, Linf


@dataclass(frozen=True)
class FGSM(Search):
    """The whole budget in one steepest step (Goodfellow et al., 2015)."""

    kind: Literal["fgsm"] = "fgsm"
    fits = (Linf, L2)
    climbs = True

    @override
    def __call__(self, s: Standing) -> None:
        gradient, _ = s.gradient(s.x)
        s.x = s.ball.project(s.clean + s.ball.eps * s.ball.steepest(gradient), s.clean)
        s.judge(s.x)


@dataclass(frozen=True)
class RFGSM(Search):
    """A random jump of the share ``jump`` of the budget, then a step of the rest.

    Tramer et al., 2018, jump by half along random signs.
    """

    jump: float = 0.5
    kind: Literal["rfgsm"] = "rfgsm"
    fits = (Linf, L2)
    climbs = True

    @override
    def __call__(self, s: Standing) -> None:
        signs = (s.uniform(s.x.shape[1:]) - 0.5).sign()
        first = s.ball.eps * self.jump * s.ball.steepest(signs)
        s.x = s.ball.project(s.clean + first, s.clean)
        gradient, _ = s.gradient(s.x)
        rest = s.ball.eps * (1 - self.jump)
        s.x = s.ball.project(s.x + rest * s.ball.steepest(gradient), s.clean)
        s.judge(s.x)
