"""An attack is four choices: a search, a loss, a gradient rule, and the threat it must respect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from spikeproof import seeding
from spikeproof.attacks._foresight import Foresight
from spikeproof.attacks._losses import CE, Loss
from spikeproof.attacks._standing import Chance, Outcome, Standing
from spikeproof.attacks._threat import Ball, Threat
from spikeproof.attacks._victim import Victim, stochastic
from spikeproof.errors import Refusal
from spikeproof.spiking import CBA, Rule


class Search(ABC):
    """How an attacker moves; a frozen value with the knobs of its method."""

    kind: str
    fits: ClassVar[tuple[type[Threat], ...]] = (Ball,)
    blind: ClassVar[bool] = False  # asks for no gradient
    climbs: ClassVar[bool] = False  # ends at an admissible point, higher as a rule than the first
    abreast: ClassVar[bool] = False  # its runs may lie side by side
    targets: int = 0  # how many wrong classes it aims at, one after the other

    def __post_init__(self) -> None:
        for knob in ("steps", "queries", "draws", "starts", "probes", "halvings"):
            if getattr(self, knob, 1) < 1:
                raise Refusal(
                    f"{knob} is {getattr(self, knob)} in {self}; a search asks at least once; "
                    "take 1 or more"
                )

    @abstractmethod
    def __call__(self, s: Standing) -> None:
        """Queries ``s`` until its budget is spent or nobody stands."""


@dataclass(frozen=True)
class Attack:
    """A search with a loss and a gradient rule; ``rule=None`` is the model's own gradient.

    Against a network that draws noise, a gradient is the mean over ``draws`` (EOT), and an error
    counts when more than half of ``votes`` fresh draws are errors.
    """

    search: Search
    loss: Loss = field(default_factory=CE)
    rule: Rule | CBA | None = None
    restarts: int = 1
    draws: int = 1
    votes: int = 20

    def __post_init__(self) -> None:
        if min(self.restarts, self.draws, self.votes) < 1:
            raise Refusal(
                f"restarts {self.restarts}, draws {self.draws}, votes {self.votes}; each happens "
                "at least once; take 1 or more"
            )
        if self.loss.targeted != (self.search.targets > 0):
            raise Refusal(
                f"{self.search} with {self.loss}; a loss that aims at a class and a search that "
                "has targets need each other; take both or none"
            )
        if self.search.blind and self.loss.per_step:
            raise Refusal(
                f"{self.search} sees no single steps and {self.loss} needs them; take the margin"
            )

    @property
    def name(self) -> str:
        """What tells this attack from all others, and seeds its noise."""
        return f"{self.search} {self.loss} {self.rule}"


def run(  # noqa: PLR0913  each is one thing that a run is of
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    ids: Tensor,
    seed: int = 0,
    source: nn.Module | None = None,
    most: int = 0,
) -> Outcome:
    """Returns what the attack claims for a batch of a model in eval mode (see ``under_attack``).

    ``ids`` name the samples: a sample's result depends on its id and the seed, not on its batch.
    ``source`` is the network whose gradient is followed, where it is another one. Where few
    samples stand, a search or the draws of a query may fill a batch with up to ``most`` rows, and
    what is found is the same.
    """
    if not isinstance(threat, attack.search.fits):
        raise Refusal(
            f"{attack.search} does not fit the threat {threat}; it moves within "
            f"{', '.join(kind.__name__ for kind in attack.search.fits)}; choose another search"
        )
    victim = Victim(model, attack.rule, source=source)
    noisy = attack.draws > 1 or stochastic(model)
    votes = attack.votes if noisy else 1
    standing = partial(Foresight, most=most) if most and not noisy else Standing
    zeros = [torch.zeros_like(y) for _ in range(3)]
    total = Outcome(x.clone(), zeros[0] > 0, *zeros)
    left = torch.arange(len(y), device=y.device)
    for restart in range(attack.restarts):
        names = (attack.name, restart)
        seeds = [seeding.derive(seed, *names, int(i)) for i in ids[left].tolist()]
        chance = Chance(attack.draws, votes, seeding.derive(seed, *names, "noise"), most)
        rows = torch.tensor(seeds, dtype=torch.int64, device=x.device)
        s = standing(victim, x[left], y[left], threat, attack.loss, rows, chance)
        attack.search(s)
        part = s.outcome()
        total.x_adv[left] = part.x_adv
        total.at[left] = torch.where(part.fallen, total.forwards[left] + part.at, 0)
        total.fallen[left] = part.fallen
        total.forwards[left] += part.forwards
        total.backwards[left] += part.backwards
        left = left[~part.fallen]
        if not len(left):
            break
    return total
