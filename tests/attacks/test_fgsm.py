from __future__ import annotations

import torch

from spikeproof.attacks import CE, FGSM, RFGSM, Attack, Linf, run
from tests.contracts.attack import Plane


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
