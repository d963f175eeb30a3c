"""Flips by scores alone: a random search over which events change, after Sparse-RS.

Croce et al. (2022), https://arxiv.org/abs/2006.12834; here from the clean frames, in whole events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import flips
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat, per_row
from spikeproof.errors import within

NEAR = 1e-4  # how far the steps of one pixel lie apart in the order of changes
DECAY = 8  # halvings of the number of changes per query, from the first query to the last


@dataclass(frozen=True)
class Coordinate(Search):
    """Random changes, kept where the loss does not fall; beyond the budget, older ones go back.

    A query changes the share ``share`` of the budget at first, and one event in the end. Pixels
    change in all their steps and one way: a network sums over time, and single events cancel. The
    queries are divided among ``starts`` searches, each from the clean frames. A change that leaves
    the loss as it is counts as progress: scores of spiking networks come in steps.
    """

    queries: int = 10_000
    starts: int = 4
    share: float = 0.3
    kind: Literal["coordinate"] = "coordinate"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)
    blind = True

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        within("share", self.share, 0, 1)

    @override
    def __call__(self, s: Standing) -> None:
        threat = flips(s)
        s.best, s.x = s.clean, s.clean
        self._ask(s)
        s.ground, s.peak = s.height, s.height
        length = max(1, (self.queries - 1) // self.starts)
        for query in s.steps(self.queries - 1):
            start, turn = divmod(query, length)
            if turn == 0 and start < self.starts:
                s.best, s.peak = s.clean, s.ground
            progress = min(1.0, (query - min(start, self.starts - 1) * length) / length)
            s.x = _proposal(s, threat, round(threat.k * self.share * 2 ** (-DECAY * progress)))
            self._ask(s)
            kept = s.height >= s.peak
            s.best = torch.where(per_row(kept, s.x), s.x, s.best)
            s.peak = torch.where(kept, s.height, s.peak)

    def _ask(self, s: Standing) -> None:
        logits = s.look(s.x)
        s.height = s.loss(logits, s.y, s.target)


def _proposal(s: Standing, threat: Flips, number: int) -> Tensor:
    """Returns the best frames with so many random changes more, and older ones undone for them."""
    best, clean = s.best.flatten(1), s.clean.flatten(1)
    steps, change = s.clean.shape[1], best - clean
    field = s.uniform((steps + 1, best.shape[1] // steps))
    order, side = (field[:, :1] + NEAR * field[:, 1:]).flatten(1), s.uniform((1,))
    down = (side < 0.5) & (best > 0) | (best >= threat.high)
    way = torch.where(change != 0, change.sign(), torch.where(down, -1.0, 1.0).to(best.dtype))
    fits = (best + way >= 0) & (best + way <= threat.high)
    number = min(max(number, 1), threat.k, best.shape[1])
    more = _first(order, fits, number)
    over = change.abs().sum(1) + more.sum(1) - threat.k
    undo = _first(2 - order, change != 0, number, over)
    return (torch.where(undo, clean, best) + way * more).reshape(s.best.shape)


def _first(order: Tensor, among: Tensor, most: int, count: Tensor | None = None) -> Tensor:
    """Returns the places of the largest ``order`` among these: ``count`` of them, or ``most``."""
    top = torch.where(among, order, -1.0).topk(most, dim=1)
    chosen = top.values >= 0
    if count is not None:
        chosen &= torch.arange(most, device=order.device) < count[:, None]
    return torch.zeros_like(among).scatter(1, top.indices, chosen)
