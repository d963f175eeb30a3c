from __future__ import annotations

import torch

from spikeproof.attacks import CE, FGSM, L2, RFGSM, Attack, Linf, run
from tests.contracts.attack import Plane, assert_search


def test_it_honours_the_contract():
    assert_search(FGSM(), (Linf, L2))


def test_the_jumping_one_owes_less_for_its_jump():
    # Half of its budget is spent at random: four times the least budget is what it owes.
    assert_search(RFGSM(), (Linf, L2), owed=4.0)


def test_it_is_one_step_of_the_whole_budget():
    model, x = Plane(), torch.full((2, 1, 8, 8), 0.45)
    y = model(x).argmax(1)
    out = run(Attack(FGSM()), model, x, y, Linf(0.5), ids=torch.arange(2))
    towards = (model.weight[1 - y] - model.weight[y]).sign()
    expected = (x.flatten(1) + 0.5 * towards).clamp(0, 1).reshape(x.shape)
    assert out.fallen.all()
    assert torch.equal(out.x_adv, expected)
    assert out.at.tolist() == [2, 2]
    assert out.backwards.tolist() == [1, 1]


def test_a_jump_of_nothing_is_fgsm():
    model, x = Plane(), torch.full((2, 1, 8, 8), 0.45)
    y = model(x).argmax(1)
    both = [
        run(Attack(search, CE()), model, x, y, Linf(0.3), ids=torch.arange(2)).x_adv
        for search in (FGSM(), RFGSM(jump=0.0))
    ]
    assert torch.equal(*both)
