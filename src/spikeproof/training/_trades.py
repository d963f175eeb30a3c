"""TRADES (Zhang et al., 2019, https://arxiv.org/abs/1901.08573)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from spikeproof.attacks import PGD, Attack, Linf, Loss, Search, Standing, Threat, ascend, frozen
from spikeproof.errors import within
from spikeproof.spiking import Rule


@dataclass(frozen=True)
class TRADES:
    """``CE(f(x), y) + beta KL(f(x) || f(x'))``; ``x'`` is where that divergence is climbed to.

    At the clean input it has no slope, so every search starts at a random point of the threat, on
    events as on images. Clean and attacked inputs go through the network as one batch, so that
    norms train on the mixture that their running statistics describe.
    """

    threat: Threat = field(default_factory=lambda: Linf(8 / 255))
    search: Search = field(default_factory=lambda: PGD(10))
    beta: float = 6.0
    rule: Rule | None = None
    kind: Literal["trades"] = "trades"

    def __post_init__(self) -> None:
        within("beta", self.beta, 0, 1e6)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        with torch.no_grad(), frozen(model):
            clean = model(x).softmax(1)
        attack = Attack(_FromAfar(self.search), _Divergence(), self.rule)
        attacked = ascend(attack, model, x, clean, self.threat, seed=seed)
        logits, moved = model(torch.cat([x, attacked])).chunk(2)
        return functional.cross_entropy(logits, y) + self.beta * divergence(logits, moved).mean()


def divergence(logits: Tensor, moved: Tensor) -> Tensor:
    """Returns (B,) the Kullback-Leibler divergence of the second answers from the first."""
    logs, moved = logits.log_softmax(-1), moved.log_softmax(-1)
    return (logs.exp() * (logs - moved)).sum(-1)


class _FromAfar(Search):
    """A search whose first query is at a random admissible point."""

    kind = "from_afar"

    def __init__(self, search: Search) -> None:
        self.search = search
        vars(self).update(fits=search.fits, climbs=search.climbs, targets=search.targets)

    @override
    def __call__(self, s: Standing) -> None:
        s.x = s.threat.random(s.clean, s.uniform)
        self.search(s)

    @override
    def __repr__(self) -> str:
        return repr(self.search)


@dataclass(frozen=True)
class _Divergence(Loss):
    """KL from probabilities, which stand where other losses have labels."""

    kind: Literal["divergence"] = "divergence"

    @override
    def __call__(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        return (torch.xlogy(y, y) - y * logits.log_softmax(-1)).sum(-1)
