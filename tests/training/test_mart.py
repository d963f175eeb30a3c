from __future__ import annotations

import torch

from spikeproof.attacks import PGD, Linf
from spikeproof.training import MART
from tests.training.robust import images, network


def by_hand(p: torch.Tensor, q: torch.Tensor, y: torch.Tensor, lamb: float) -> torch.Tensor:
    each = []
    for row, label in enumerate(y.tolist()):
        rival = max(value for k, value in enumerate(q[row]) if k != label)
        boosted = -q[row, label].log() - (1 - rival).log()
        apart = sum(a * (a / b).log() for a, b in zip(p[row], q[row], strict=True))
        each.append(boosted + lamb * apart * (1 - p[row, label]))
    return torch.stack(each).mean()


def test_by_hand_at_the_attacked_input_that_the_network_saw():
    model, (x, y) = network(), images()
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = MART(Linf(0.1), PGD(3), lamb=2.0)(model, x, y, 1)
    clean, attacked = seen[-1].chunk(2)
    assert torch.equal(clean, x)
    assert Linf(0.1).admits(attacked, x).all()
    assert not torch.equal(attacked, x)
    p, q = network()(seen[-1]).softmax(1).chunk(2)
    torch.testing.assert_close(loss, by_hand(p, q, y, 2.0))


def test_with_eps_0_only_the_boosted_cross_entropy_is_left():
    model, (x, y) = network(), images()
    q = model(x).softmax(1)
    torch.testing.assert_close(MART(Linf(0), PGD(2))(model, x, y), by_hand(q, q, y, 0.0))


def test_a_sure_and_wrong_answer_costs_much_and_not_infinitely():
    class Sure(torch.nn.Module):
        weight = torch.nn.Parameter(torch.tensor([[900.0, 0.0, 0.0]]))

        def forward(self, x):
            return x.flatten(1)[:, :3] * 0 + self.weight

    x, _ = images()
    loss = MART(Linf(0.1), PGD(2))(Sure(), x, torch.ones(len(x), dtype=torch.long))
    assert torch.isfinite(loss)
    assert loss > 100
