"""MART (Wang et al., 2020, https://openreview.net/forum?id=rklOg6EFwS)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof.attacks import CE, PGD, Attack, Linf, Search, Threat, ascend
from spikeproof.errors import within
from spikeproof.spiking import Rule
from spikeproof.training._trades import divergence

SMALLEST = 1e-12  # a wrong class of probability 1 would cost infinitely much


@dataclass(frozen=True)
class MART:
    """Boosted cross entropy of attacked inputs, and ``lamb KL (1 - p_y)``, which minds the weak.

    With p and q the probabilities at the clean and at the attacked input:
    ``-log q_y - log(1 - max_{k != y} q_k) + lamb KL(p || q) (1 - p_y)``. Both inputs go through
    the network as one batch, as in TRADES.
    """

    threat: Threat = field(default_factory=lambda: Linf(8 / 255))
    search: Search = field(default_factory=lambda: PGD(10))
    lamb: float = 5.0
    rule: Rule | None = None
    kind: Literal["mart"] = "mart"

    def __post_init__(self) -> None:
        within("lamb", self.lamb, 0, 1e6)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        attack = Attack(self.search, CE(), self.rule)
        attacked = ascend(attack, model, x, y, self.threat, seed=seed)
        logits, moved = model(torch.cat([x, attacked])).chunk(2)
        q = moved.softmax(1)
        rival = q.scatter(1, y[:, None], 0.0).amax(1)
        own = moved.log_softmax(1).gather(1, y[:, None]).squeeze(1)
        boosted = -own - torch.log((1 - rival).clamp_min(SMALLEST))
        unsure = 1 - logits.softmax(1).gather(1, y[:, None]).squeeze(1)
        return (boosted + self.lamb * divergence(logits, moved) * unsure).mean()
