from __future__ import annotations

import torch

from spikeproof.attacks import PGD, Attack, Linf, run
from tests.contracts.attack import COUNT, Plane, samples, small_network


def test_without_a_random_start_it_begins_at_the_clean_input_and_takes_its_step():
    model, x = Plane(), torch.full((1, 1, 8, 8), 0.45)
    y = model(x).argmax(1)
    search = PGD(steps=1, step_size=0.02, random_start=False)
    out = run(Attack(search), model, x, y, Linf(0.5), ids=torch.arange(1))
    need = model(x).diff()[0, 0].abs().item()
    gain = (model.weight[0] - model.weight[1]).abs().sum().item() * 0.02
    assert out.fallen.item() == (gain > need)
    assert out.forwards.item() == 2


def test_more_steps_and_restarts_break_no_fewer():
    model, (x, y) = small_network(), samples()
    broken = [
        int(run(attack, model, x, y, Linf(0.08), ids=torch.arange(COUNT)).fallen.sum())
        for attack in (Attack(PGD(2)), Attack(PGD(10)), Attack(PGD(10), restarts=3))
    ]
    assert broken == sorted(broken)
    assert broken[-1] > broken[0]
