from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.attacks import APGD, CE, Attack, Linf, Margin, TargetedDLR, run
from spikeproof.attacks._apgd import checkpoints
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from tests.contracts.attack import COUNT, samples, small_network
from tests.oracles import ascent


def test_a_size_is_judged_when_the_paper_says():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99] == ascent.checkpoints(100)
    assert list(checkpoints(1000)) == [220, 410, 570, 700, 800, 870, 930, 990]
    assert set(checkpoints(1)) == {1}
    assert set(checkpoints(3)) == {1, 2, 3}


class Wavy(torch.nn.Module):
    """A loss of many hills, with one answer that is always right."""

    def __init__(self, seed):
        super().__init__()
        source = generator(seed, "wavy")
        self.w = torch.randn(6, 12, generator=source, dtype=torch.float64) * 6
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        height = torch.sin(x.flatten(1) @ self.w.T).sum(1)
        return torch.stack([20 - height, torch.zeros_like(height)], 1)


@pytest.mark.parametrize("seed", range(4))
def test_its_iterates_are_those_of_the_paper(seed):
    model, steps, eps = Wavy(seed), 40, 0.1
    x = torch.rand(1, 12, generator=generator(seed, "x"), dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.int64)
    run(Attack(APGD(steps), Margin()), model, x, y, Linf(eps), ids=torch.arange(1))
    seen, model.seen = model.seen, []

    def ask(z):
        z = torch.tensor(z)[None].requires_grad_()
        logits = model(z)
        loss = logits[0, 1] - logits[0, 0]
        (slope,) = torch.autograd.grad(loss, z)
        return loss.item(), slope[0].numpy()

    expected = ascent.apgd(ask, seen[0][0].numpy(), x[0].numpy(), eps, steps)
    np.testing.assert_allclose(
        torch.cat([z[:1] for z in seen]).numpy(), np.stack(expected), atol=1e-9
    )


def test_it_aims_at_the_best_wrong_classes_in_turn():
    class Aimed(TargetedDLR):
        def __call__(self, logits, y, target):
            aims.append(target.clone())
            return super().__call__(logits, y, target)

    aims = []
    logits = torch.tensor([3.0, 9.0, 1.0, 2.0])

    def model(x):
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)

    class Constant(torch.nn.Module):
        def forward(self, x):
            return model(x)

    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])
    run(Attack(APGD(4, targets=9), Aimed()), Constant(), x, y, Linf(0.1), ids=torch.arange(1))
    assert [int(a) for a in aims] == [0] * 5 + [3] * 5 + [2] * 5


def test_targets_break_no_fewer_than_the_same_steps_without():
    model, (x, y) = small_network(), samples()
    ids = torch.arange(COUNT)
    plain = run(Attack(APGD(20)), model, x, y, Linf(0.06), ids=ids)
    aimed = run(Attack(APGD(20, targets=9), TargetedDLR()), model, x, y, Linf(0.06), ids=ids)
    assert aimed.fallen.sum() >= plain.fallen.sum() - 1


@pytest.mark.parametrize(("search", "loss"), [(APGD(), TargetedDLR()), (APGD(targets=3), CE())])
def test_aims_and_targets_need_each_other(search, loss):
    with pytest.raises(Refusal, match="take both or none"):
        Attack(search, loss)


def test_no_steps_are_refused():
    with pytest.raises(Refusal, match="steps is 0"):
        APGD(steps=0)
