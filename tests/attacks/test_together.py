from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import (
    APGD,
    CE,
    DLR,
    FAB,
    L2,
    MIFGSM,
    PGD,
    SAPGD,
    Attack,
    Linf,
    Margin,
    Square,
    StepCE,
    TargetedDLR,
    run,
    run_together,
    together,
)
from spikeproof.errors import Refusal
from spikeproof.spiking import ASSG, CBA, HART, PDSG, Spiking, Triangle
from tests.contracts.attack import COUNT, samples, small_network

IDS = torch.arange(100, 100 + COUNT)
SAPGDS = [Attack(SAPGD(6), loss, ASSG(), restarts=2) for loss in (CE(), Margin())]
GROUPS = {
    "rules": [Attack(APGD(8), CE(), rule) for rule in (ASSG(), None, HART(Triangle(1.0)), PDSG())],
    "losses": [Attack(APGD(8), loss, ASSG()) for loss in (CE(), DLR())],
    "restarts": SAPGDS,
    "targets": [Attack(APGD(6, targets=12), TargetedDLR(), rule) for rule in (ASSG(), None)],
    "steps": [Attack(PGD(5), StepCE(), rule) for rule in (None, ASSG())],
    "momentum": [Attack(MIFGSM(5), restarts=2)],
}


def in_turn(attacks, model, x, y, threat):
    """What each attack finds of those that stand, by ``run``."""
    left, found = torch.arange(len(y)), []
    for seed, attack in enumerate(attacks):
        outcome = run(attack, model, x[left], y[left], threat, ids=IDS[left], seed=seed)
        found.append((left, outcome))
        left = left[~outcome.fallen]
    return found


@pytest.mark.parametrize("most", [1, 50, 10_000])
@pytest.mark.parametrize("group", GROUPS)
def test_together_finds_what_one_after_the_other_finds(group, most):
    model, (x, y), attacks = small_network(), samples(), GROUPS[group]
    for threat in (Linf(0.06), L2(0.5)):
        if group == "restarts" and isinstance(threat, L2):
            continue
        expected = in_turn(attacks, model, x, y, threat)
        seeds = range(len(attacks))
        found = run_together(attacks, seeds, model, x, y, threat, ids=IDS, most=most)
        fell = torch.zeros(len(y), dtype=torch.int64)
        for (left, alone), outcome in zip(expected, found, strict=True):
            for name in ("x_adv", "fallen", "at", "forwards", "backwards"):
                assert torch.equal(getattr(alone, name), getattr(outcome, name)[left]), name
            met = torch.zeros(len(y), dtype=torch.bool).index_fill(0, left, value=True)
            assert not outcome.fallen[~met].any()
            fell += outcome.fallen
        assert fell.max() == 1
        assert fell.min() == 0, "somebody stands, so that all lanes ran to their end"


def test_who_may_share_a_batch():
    pgd = Attack(PGD(5))
    assert together(pgd, Attack(PGD(5), DLR(), ASSG(), restarts=3))
    assert not together(pgd, Attack(PGD(6)))
    assert not together(pgd, Attack(PGD(5), StepCE()))
    assert not together(pgd, Attack(PGD(5), rule=CBA()))
    assert not together(pgd, Attack(PGD(5), draws=2))
    for own in (Attack(Square(5), Margin()), Attack(FAB(5), Margin())):
        assert not together(own, own)
    model, (x, y), pair = small_network(), samples(), [pgd, Attack(PGD(6))]
    with pytest.raises(Refusal, match="run them in turn"):
        run_together(pair, (0, 1), model, x, y, Linf(0.1), ids=IDS, most=64)


def test_a_hook_on_neurons_is_met_as_it_would_be_in_turn():
    model, (x, y) = small_network(), samples()
    layer = next(m for m in model.modules() if isinstance(m, Spiking))
    layer.register_forward_hook(lambda _, __, spikes: 0.7 * spikes)
    attacks, threat = GROUPS["rules"], Linf(0.06)
    expected = in_turn(attacks, model, x, y, threat)
    found = run_together(attacks, range(len(attacks)), model, x, y, threat, ids=IDS, most=10_000)
    for (left, alone), outcome in zip(expected, found, strict=True):
        assert torch.equal(alone.x_adv, outcome.x_adv[left])
        assert torch.equal(alone.fallen, outcome.fallen[left])
