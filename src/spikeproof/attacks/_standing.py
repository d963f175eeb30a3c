"""The samples that still stand against an attack, and whatever a search remembers of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikeproof import seeding
from spikeproof.attacks import _noise
from spikeproof.attacks._losses import Loss, correct
from spikeproof.attacks._threat import Ball, Threat
from spikeproof.attacks._victim import Victim
from spikeproof.spiking import unobserved


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack claims for each sample of a batch; another room judges it.

    ``x_adv`` is the clean input where nothing was found; ``at`` is the query that succeeded,
    counted from 1, and 0 where none did.
    """

    x_adv: Tensor
    fallen: Tensor
    at: Tensor
    forwards: Tensor
    backwards: Tensor


@dataclass(frozen=True)
class Chance:
    """How noise is dealt with: ``draws`` per gradient, and ``votes`` on every error found.

    An error of a network that draws noise counts when more than half of the votes, fresh draws
    that no gradient has seen, are errors too. Draws share batches of up to ``most`` rows.
    """

    draws: int = 1
    votes: int = 1
    seed: int = 0
    most: int = 0

    def shared(self, number: int, rows: int) -> Iterator[range]:
        """Yields so many passes of these rows in groups that fill a batch."""
        width = max(1, self.most // max(1, rows))
        yield from (range(low, min(low + width, number)) for low in range(0, number, width))


class Standing:
    """What a search works on: an iterate ``x``, its ``clean`` input, its label ``y``, a ``target``.

    Every public attribute that is a tensor has one row per sample, those that a search adds
    included. Each query judges its iterate; a sample that falls leaves all of them at once. So
    a search must keep what belongs to samples here, and must not hold it over a query elsewhere.
    """

    if TYPE_CHECKING:  # what searches add

        def __getattr__(self, name: str) -> Tensor: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(
        self,
        victim: Victim,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        loss: Loss,
        seeds: Tensor,
        chance: Chance | None = None,
    ) -> None:
        victim.forget()
        self.x, self.clean, self.y, self.seeds = x.clone(), x, y, seeds
        self.target = y
        self.threat, self.loss = threat, loss
        self._victim = victim
        self._place = torch.arange(len(x), device=x.device)
        self._counter = 0
        self._chance, self._queries = chance or Chance(), 0
        self._found = x.clone()
        self._at, self._forwards, self._backwards = (torch.zeros_like(y) for _ in range(3))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def ball(self) -> Ball:
        """The threat, for searches that move in norm balls."""
        if not isinstance(self.threat, Ball):
            raise TypeError(f"{self.threat} is no norm ball")
        return self.threat

    def steps(self, number: int) -> Iterator[int]:
        """Counts to ``number``, as long as a sample stands."""
        for step in range(number):
            if not len(self):
                return
            yield step

    def look(self, x: Tensor) -> Tensor:
        """Queries the model at ``x`` and returns the logits of the samples that still stand."""
        if not len(self):
            return x.new_zeros((0, 1))
        self._redraw("look")
        logits = self._victim.logits(x)
        self._forwards[self._place] += 1
        stands = self._judge(x, logits)
        return logits[stands]

    def judge(self, x: Tensor) -> None:
        """Queries the model only to see who falls at ``x``: the last query of most searches."""
        self.look(x)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries model and gradient at ``x``; returns gradients and losses of those that stand."""
        if not len(self):
            return x[:0], x.new_zeros(0)
        draws = zip(*self._draws(x), strict=True)
        logits, losses, gradient = (torch.cat(part).mean(0) for part in draws)
        # NaN would never leave the iterate again; a direction of zeros lets the others go on.
        gradient = gradient.nan_to_num(0, 0, 0)
        if not self._victim.same_forward:
            self._redraw("look")
            logits = self._victim.logits(x)
            self._forwards[self._place] += 1
        stands = self._judge(x, logits)
        return gradient[stands], losses[stands]

    def probe(self, x: Tensor, rows: Tensor) -> Tensor:
        """Returns the logits of trial inputs, any number of them for each of the samples ``rows``.

        Trials are counted and not judged: nobody leaves, and a search must ``look`` at the best.
        """
        self._forwards.index_add_(0, self._place[rows], torch.ones_like(rows))
        self._redraw("probe")
        return self._victim.logits(x)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these samples only; the search gives the others up."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and not name.startswith("_"):
                setattr(self, name, value[rows])
        self._place = self._place[rows]
        self._victim.keep(rows)

    def aims(self, targets: int) -> Iterator[None]:
        """Sets ``target`` to each of the best wrong classes at the clean input in turn.

        Without targets there is one turn, and no target.
        """
        if not targets:
            yield
            return
        logits = self.look(self.clean)
        wrong = logits.scatter(1, self.y[:, None], -torch.inf)
        self.classes = wrong.argsort(dim=1, descending=True, stable=True)[:, :-1]
        for turn in range(min(targets, self.classes.shape[1])):
            if not len(self):
                return
            self.target = self.classes[:, turn]
            yield

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Returns (B, *shape) fresh numbers in [0, 1), a function of each sample's own seed."""
        self._counter += 1
        return _noise.uniform(self.seeds, self._counter, shape)

    def outcome(self) -> Outcome:
        """Returns what was found for every sample that the attack began with."""
        return Outcome(self._found, self._at > 0, self._at, self._forwards, self._backwards)

    def _losses(self, logits: Tensor) -> Tensor:
        times = range(logits.shape[-2] // len(self.y))
        return self.loss(logits, _again(self.y, times), _again(self.target, times))

    def _seed(self, *names: str | int) -> int:
        self._queries += 1
        return seeding.derive(self._chance.seed, self._queries, *names)

    def _redraw(self, *names: str | int) -> None:
        self._victim.redraw(self._seed(*names))

    def _draws(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        yield self._drawn(x, range(1))
        if self._chance.draws == 1:
            return
        # An adaptive rule takes one step per query, however many draws the query has.
        with unobserved(self._victim.source):
            for group in self._chance.shared(self._chance.draws - 1, len(x)):
                yield self._drawn(x, range(group.start + 1, group.stop + 1))

    def _drawn(self, x: Tensor, draws: range) -> tuple[Tensor, Tensor, Tensor]:
        """Returns logits, losses and gradients by draw and sample."""
        self._victim.redraw(*(self._seed("draw", draw) for draw in draws))
        self._forwards[self._place] += len(draws)
        self._backwards[self._place] += len(draws)
        own = torch.arange(len(x), device=x.device)
        if len(draws) > 1:
            self._victim.keep(own.repeat(len(draws)))
        found = self._victim.gradient(_again(x, draws), self._losses, per_step=self.loss.per_step)
        if len(draws) > 1:
            self._victim.keep(own)
        logits, losses, gradient = (part.unflatten(0, (len(draws), len(x))) for part in found)
        return logits, losses, gradient

    def _outvoted(self, x: Tensor, fell: Tensor) -> Tensor:
        """Returns which of the errors most fresh draws of the noise confirm."""
        rows = fell.nonzero().squeeze(1)
        wrong = torch.zeros_like(rows)
        for votes in self._chance.shared(self._chance.votes if len(rows) else 0, len(rows)):
            names = ((self._queries, "vote", vote) for vote in votes)
            self._victim.redraw(*(seeding.derive(self._chance.seed, *name) for name in names))
            logits = self._victim.logits(_again(x[rows], votes))
            right = correct(logits, _again(self.y[rows], votes))
            wrong += (~right).unflatten(0, (len(votes), len(rows))).sum(0)
            self._forwards[self._place[rows]] += len(votes)
        return fell.index_put((rows,), 2 * wrong > self._chance.votes)

    def _judge(self, x: Tensor, logits: Tensor) -> Tensor:
        wrong = ~correct(logits, self.y)
        if not bool(wrong.any()):
            return torch.arange(len(wrong), device=wrong.device)
        fell = wrong & self.threat.admits(x, self.clean)
        if self._chance.votes > 1:
            fell = self._outvoted(x, fell)
        places = self._place[fell]
        self._found[places] = x[fell].detach()
        self._at[places] = self._forwards[places]
        stands = self._standing(fell)
        if len(stands) < len(fell):
            self.keep(stands)
        return stands

    def _standing(self, fell: Tensor) -> Tensor:
        """Returns the rows that go on."""
        return (~fell).nonzero().squeeze(1)


def _again(x: Tensor, passes: range) -> Tensor:
    """Returns the rows once for every pass."""
    return x.repeat(len(passes), *[1] * (x.dim() - 1))
