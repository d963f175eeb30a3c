from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import CE, FGSM, PGD, Attack, Linf, ascend
from spikeproof.spiking import HART
from spikeproof.training import Adversarial, CrossEntropy
from tests.training.robust import images, network


@pytest.mark.parametrize("rule", [None, HART()])
def test_it_is_cross_entropy_where_the_attack_ends(rule):
    model, (x, y) = network(), images()
    objective = Adversarial(Linf(0.1), PGD(3), rule=rule)
    there = ascend(Attack(PGD(3), CE(), rule), model, x, y, Linf(0.1), seed=5)
    model = network()  # norms have seen nothing yet
    assert torch.equal(objective(model, x, y, 5), CrossEntropy()(network(), there, y))
    assert (there - x).abs().amax() > 0.05


def test_the_weights_do_not_learn_through_the_attack():
    model, (x, y) = network(), images()
    objective = Adversarial(Linf(0.1), FGSM())
    objective(model, x, y, 0).backward()
    own = [p.grad for p in model.parameters()]
    model = network()
    there = ascend(Attack(FGSM()), model, x, y, Linf(0.1), seed=0)
    CrossEntropy()(model, there, y).backward()
    for mine, other in zip(own, model.parameters(), strict=True):
        assert torch.equal(mine, other.grad)
