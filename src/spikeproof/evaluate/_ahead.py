"""Steps that lie ahead, run in one batch with the step at hand where few samples stand.

What a sample meets does not depend on it: claims found ahead wait until their step is reached, and
one that its step never asks for is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikeproof.attacks import Attack, Outcome, Threat, run_together, stochastic, together
from spikeproof.evaluate._suite import Step
from spikeproof.seeding import derive

Run = Callable[[Tensor, Tensor, Tensor], Outcome]  # of inputs, labels and the numbers of samples


@dataclass(frozen=True, eq=False)
class _Claim:
    """What a step claims of one sample; ``x_adv`` only where it fell."""

    x_adv: Tensor | None
    at: int
    forwards: int
    backwards: int
    seconds: float


class Ahead:
    """The claims of later steps, for the samples that stood when they were found."""

    def __init__(self, model: nn.Module, threat: Threat, steps: Sequence[Step], seed: int) -> None:
        self._model, self._threat, self._steps, self._seed = model, threat, steps, seed
        self._claims: dict[tuple[int, int], _Claim] = {}
        self._works = not stochastic(model)

    def outcome(
        self,
        number: int,
        places: Sequence[int],
        x: Tensor,
        y: Tensor,
        ids: Tensor,
        most: int,
        alone: Run,
    ) -> tuple[Outcome, float]:
        """Returns what step ``number`` (from 1) claims, and the seconds that belong to it.

        A batch has at most ``most`` rows. ``alone`` runs the step by itself, where it must be.
        """
        begun = time.monotonic()
        if not self._works or not _shared(self._steps[number - 1]):
            return alone(x, y, ids), time.monotonic() - begun
        missing = [row for row, place in enumerate(places) if (number, place) not in self._claims]
        if missing:
            rows = torch.tensor(missing, device=x.device)
            left = [places[row] for row in missing]
            try:
                self._find(number, left, x[rows], y[rows], ids[rows.cpu()], most)
            except Exception:  # noqa: BLE001  what an attack raises, it raises again by itself
                self._works = False
        if not self._works:  # outside the handler, which holds the tensors of what failed
            return alone(x, y, ids), time.monotonic() - begun
        found = [self._claims.pop((number, place)) for place in places]
        counts = (
            torch.tensor(numbers, dtype=y.dtype, device=y.device)
            for numbers in zip(*((c.at, c.forwards, c.backwards) for c in found), strict=True)
        )
        at, forwards, backwards = counts
        x_adv = torch.stack(
            [row if c.x_adv is None else c.x_adv for row, c in zip(x, found, strict=True)]
        )
        outcome = Outcome(x_adv, at > 0, at, forwards, backwards)
        return outcome, sum(claim.seconds for claim in found)

    def _mates(self, number: int) -> Iterator[tuple[int, Attack]]:
        """Yields this step and those after it that share its batch, up to another search."""
        first = _shared(self._steps[number - 1])
        for later, step in enumerate(self._steps[number - 1 :], number):
            attack = _shared(step)
            if first and attack:
                if not together(first, attack):
                    return
                yield later, attack

    def _find(
        self, number: int, places: Sequence[int], x: Tensor, y: Tensor, ids: Tensor, most: int
    ) -> None:
        begun = time.monotonic()
        mates = dict(self._mates(number))
        outcomes = run_together(
            [*mates.values()],
            [derive(self._seed, self._steps[mate - 1].id) for mate in mates],
            self._model,
            x,
            y,
            self._threat,
            ids=ids,
            most=most,
        )
        queries = sum(int(outcome.forwards.sum()) for outcome in outcomes)
        each = (time.monotonic() - begun) / max(1, queries)
        stands = set(range(len(places)))
        for mate, outcome in zip(mates, outcomes, strict=True):
            columns = (outcome.at, outcome.forwards, outcome.backwards)
            numbers = list(zip(*(column.tolist() for column in columns), strict=True))
            for row in sorted(stands):
                at, forwards, backwards = numbers[row]
                self._claims[mate, places[row]] = _Claim(
                    outcome.x_adv[row] if at else None, at, forwards, backwards, each * forwards
                )
                if at:
                    stands.remove(row)


def _shared(step: Step) -> Attack | None:
    """Returns the attack of a step that meets those that stand, by the network's own gradient."""
    attack = step.attack
    if step.everyone or step.limit or step.threat or step.source:
        return None
    return attack if isinstance(attack, Attack) and together(attack, attack) else None
