"""Where a search ends when nobody leaves it: what adversarial training learns from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.attacks._attack import Attack
from spikeproof.attacks._standing import Chance, Standing
from spikeproof.attacks._threat import Threat
from spikeproof.attacks._victim import Victim, frozen
from spikeproof.errors import Refusal


def ascend(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, seed: int
) -> Tensor:
    """Returns where one run of the attack's search ends for every sample, fooled or not.

    The model attacks itself in eval mode and comes back as it was. ``y`` is whatever the loss
    compares with, labels as a rule.
    """
    if not attack.search.climbs:
        raise Refusal(
            f"{attack.search} climbs to no end: it looks for errors, wherever they are; training "
            "learns from where a search ends; take pgd, or topk for events"
        )
    if not isinstance(threat, attack.search.fits):
        raise Refusal(
            f"{attack.search} does not fit the threat {threat}; it moves within "
            f"{', '.join(kind.__name__ for kind in attack.search.fits)}; choose another search"
        )
    if not bool(threat.admits(x, x).all()):
        raise Refusal(
            f"the samples lie outside of what {threat} admits, from {float(x.min()):g} to "
            f"{float(x.max()):g}; an attack would change them beyond its budget; give a threat "
            "for this range, such as flips or relaxed_linf for counts of events"
        )
    with frozen(model):
        names = [seeding.derive(seed, attack.name, row) for row in range(len(x))]
        seeds = torch.tensor(names, dtype=torch.int64, device=x.device)
        chance = Chance(attack.draws, 1, seeding.derive(seed, attack.name, "noise"))
        s = _Climbing(Victim(model, attack.rule), x, y, threat, attack.loss, seeds, chance)
        attack.search(s)
        return s.x.detach()


class _Climbing(Standing):
    """Nobody is judged, so nobody falls, and a query that would only judge is not made."""

    @override
    def judge(self, x: Tensor) -> None:
        return

    @override
    def _judge(self, x: Tensor, logits: Tensor) -> Tensor:
        return torch.arange(len(x), device=x.device)
