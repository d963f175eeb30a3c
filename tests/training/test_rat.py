from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import PGD, Linf
from spikeproof.errors import Refusal
from spikeproof.spiking import BPTR, RGA
from spikeproof.training import RAT, Adversarial
from tests.training.robust import images, network


def test_each_step_is_adversarial_training_through_one_of_the_rules():
    x, y = images()
    budget = (Linf(0.1), PGD(2))
    losses = {
        rule: [Adversarial(*budget, rule=rule)(network(), x, y, seed) for seed in range(12)]
        for rule in (None, BPTR(), RGA())
    }
    mixed = [RAT(*budget, rules=(None, BPTR(), RGA()))(network(), x, y, s) for s in range(12)]
    taken = [
        [rule for rule in losses if torch.equal(losses[rule][seed], loss)]
        for seed, loss in enumerate(mixed)
    ]
    assert all(len(rules) == 1 for rules in taken)
    assert {rules[0] for rules in taken} == set(losses)


def test_one_rule_is_adversarial_training():
    x, y = images()
    for rule in (None, BPTR()):
        one = RAT(Linf(0.1), PGD(2), rules=(rule,))(network(), x, y, 7)
        assert torch.equal(one, Adversarial(Linf(0.1), PGD(2), rule=rule)(network(), x, y, 7))


def test_no_rule_at_all_is_refused():
    with pytest.raises(Refusal, match="rules is empty"):
        RAT(rules=())
