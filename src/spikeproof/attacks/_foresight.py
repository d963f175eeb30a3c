"""Proposals of a random search, asked in one batch before it is known which of them are needed.

Such a search keeps few of its proposals. So the next ones of a sample are all drawn from its best
so far: the first that moves it is taken, those behind it are forgotten and drawn again. A batch of
a few rows takes nearly as long as one of many. What is found is what one query after the other
finds, and only the queries which that search would have asked are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikeproof.attacks import _noise
from spikeproof.attacks._losses import correct
from spikeproof.attacks._standing import Standing

WIDEST = 16  # proposals of one sample in a batch


class Trials:
    """Samples, each in ``width`` rows in succession: one for each of its next queries."""

    def __init__(self, s: Standing, width: int, calls: int, counter: int) -> None:
        count, device = len(s), s.y.device
        self.width, self.ball = width, s.ball
        self.rows = torch.arange(count, device=device).repeat_interleave(width)
        self.turns = s.turn[self.rows] + torch.arange(width, device=device).repeat(count)
        self.clean, self.best = s.clean[self.rows], s.best[self.rows]
        # Counters are added to seeds in this unit, so these numbers are those of a query's turn.
        self._seeds = s.seeds[self.rows] + _noise.GOLDEN * (calls * self.turns)
        self._counter = counter

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Returns (B, *shape) numbers: those that the search would draw in the turn of each row."""
        self._counter += 1
        return _noise.uniform(self._seeds, self._counter, shape)


class Foresight(Standing):
    """Samples whose next proposals may share a batch of at most ``most`` rows, or of one each.

    The network must give equal rows equal logits: it draws no noise.
    """

    best: Tensor
    peak: Tensor

    def __init__(self, *given: Any, most: int) -> None:
        super().__init__(*given)
        self._most = most

    def climb(self, queries: int, propose: Callable[[Trials], Tensor], calls: int) -> None:
        """Asks ``queries`` proposals of each sample, and keeps those where its loss does not fall.

        ``propose`` draws noise ``calls`` times, and its rows depend on nothing but their own. The
        attributes ``best`` and ``peak`` hold the best input and its loss.
        """
        self.turn = torch.zeros_like(self.y)
        counter, width = self._counter, 1.0
        while len(self) and (left := queries - int(self.turn.max())):
            count = len(self)
            room = min(left, max(1, self._most // count))
            trials = Trials(self, min(round(width), room), calls, counter)
            moved = self._settle(trials, propose(trials))
            width = _width(width, moved / count)
            if bool((self.turn == queries).any()):
                self.keep((self.turn < queries).nonzero().squeeze(1))

    def _settle(self, trials: Trials, x: Tensor) -> int:
        """Goes to the first proposal that moves its sample, or past them all; returns how many."""
        fell, height, stops = self._answers(trials, x)
        before = (stops.reshape(len(self), trials.width).cumsum(1) == 0).sum(1)
        taken = (before + 1).clamp_max(trials.width)
        self.turn = self.turn + taken
        self._forwards[self._place] += taken
        moved = (before < trials.width).nonzero().squeeze(1)
        first = moved * trials.width + before[moved]
        self.best = self.best.index_copy(0, moved, x[first])
        self.peak = self.peak.index_copy(0, moved, height[first])
        lost = moved[fell[first]]
        if len(lost):
            places = self._place[lost]
            self._found[places] = self.best[lost]
            self._at[places] = self._forwards[places]
            stands = torch.ones_like(self.y, dtype=torch.bool).index_fill(0, lost, value=False)
            self.keep(stands.nonzero().squeeze(1))
        return len(moved)

    def _answers(self, trials: Trials, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns which proposals fool, the loss of each, and which of them move their sample."""
        height = self.peak[trials.rows]
        fell = torch.zeros_like(trials.rows, dtype=torch.bool)
        stops = torch.zeros_like(fell)
        # The answer at the best input itself is known, and changes nothing.
        asked = (x != trials.best).flatten(1).any(1).nonzero().squeeze(1)
        if len(asked):
            rows, trial = trials.rows[asked], x[asked]
            # A row alone takes other kernels, whose sums round otherwise.
            logits = self._victim.logits(trial if len(asked) > 1 else trial.repeat_interleave(2, 0))
            logits = logits[: len(asked)]
            height[asked] = self.loss(logits, self.y[rows], self.target[rows])
            wrong = ~correct(logits, self.y[rows])
            if bool(wrong.any()):
                fell[asked] = wrong & self.threat.admits(trial, self.clean[rows])
            stops[asked] = fell[asked] | (height[asked] >= self.peak[rows])
        return fell, height, stops


def _width(width: float, moved: float) -> float:
    """Returns the next width: it rests where its proposals move half of the samples."""
    return min(max(width + 1 - 2 * moved, 1.0), WIDEST)
