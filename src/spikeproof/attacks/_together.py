"""Attacks in one batch: what each finds of the samples that those before it left standing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikeproof.attacks._abreast import Abreast, Lane
from spikeproof.attacks._attack import Attack
from spikeproof.attacks._crowd import shareable
from spikeproof.attacks._standing import Outcome
from spikeproof.attacks._threat import Threat
from spikeproof.errors import Refusal
from spikeproof.spiking import CBA


def together(attack: Attack, other: Attack) -> bool:
    """Returns whether these attacks can run in one batch, against a network without noise."""
    one, two = attack.search, other.search
    return (
        one.abreast
        and one == two
        and attack.loss.per_step == other.loss.per_step
        and attack.draws == other.draws == 1
        and not isinstance(attack.rule, CBA)
        and not isinstance(other.rule, CBA)
    )


def run_together(
    attacks: Sequence[Attack],
    seeds: Sequence[int],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    ids: Tensor,
    most: int,
) -> list[Outcome]:
    """Returns what ``run`` would return of each attack, one after the other, each by its seed.

    An attack meets the samples that no attack before it broke; of others its outcome says nothing.
    A batch has at most ``most`` rows, or one run's. Where hooks or a class of its own change what a
    layer of neurons does, every run has a batch of its own.
    """
    search = attacks[0].search
    if not all(together(attacks[0], attack) for attack in attacks):
        raise Refusal(
            f"{attacks[0].name} does not share a batch with all that follow it; one search, no "
            "noise, and a rule with the model's own forward pass are needed; run them in turn"
        )
    lanes = [
        Lane(number, attack.loss, attack.rule, seed, (attack.name, restart))
        for number, (attack, seed) in enumerate(zip(attacks, seeds, strict=True))
        if not isinstance(attack.rule, CBA)
        for restart in range(attack.restarts)
    ]
    zeros = torch.zeros_like(y)
    totals = [Outcome(x.clone(), zeros > 0, *(zeros.clone() for _ in range(3))) for _ in attacks]
    left = torch.arange(len(y), device=y.device)
    most = most if shareable(model) else 1
    while lanes and len(left):
        width = max(1, most // len(left))
        now, lanes = lanes[:width], lanes[width:]
        s = Abreast(model, x[left], y[left], threat, now, ids[left.cpu()].tolist())
        search(s)
        parts, first = s.lanes()
        for number, (lane, part) in enumerate(zip(now, parts, strict=True)):
            _add(totals[lane.attack], part, left, first >= number)
        left = left[first == len(now)]
    return totals


def _add(total: Outcome, part: Outcome, left: Tensor, met: Tensor) -> None:
    rows = left[met]
    fallen = part.fallen[met]
    total.x_adv[rows] = torch.where(
        fallen.reshape(-1, *[1] * (part.x_adv.dim() - 1)), part.x_adv[met], total.x_adv[rows]
    )
    total.at[rows] = torch.where(fallen, total.forwards[rows] + part.at[met], total.at[rows])
    total.fallen[rows] |= fallen
    total.forwards[rows] += part.forwards[met]
    total.backwards[rows] += part.backwards[met]
