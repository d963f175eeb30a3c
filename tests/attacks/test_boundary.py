from __future__ import annotations

import torch

from spikeproof.attacks import L2, Attack, HopSkipJump, Linf, run
from tests.contracts.attack import COUNT, Plane, samples, small_network


def test_it_asks_for_labels_alone():
    """Logits bent in any way that keeps their order change nothing."""

    class Bent(Plane):
        def forward(self, x):
            return torch.atan(super().forward(x) / 10) * 3 + 7

    x = torch.full((2, 1, 8, 8), 0.49)
    y = Plane()(x).argmax(1)
    attack = Attack(HopSkipJump(300, starts=30, probes=20))
    plain, bent = (
        run(attack, model, x, y, L2(0.5), ids=torch.arange(2)) for model in (Plane(), Bent())
    )
    assert plain.fallen.any()
    assert torch.equal(plain.x_adv, bent.x_adv)
    assert (plain.backwards == 0).all()


def test_without_any_error_it_stays_at_the_clean_input():
    class Sure(torch.nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return torch.stack([torch.ones(len(x)), torch.zeros(len(x))], 1)

    seen = []
    x = torch.full((1, 1, 2, 2), 0.25)
    attack = Attack(HopSkipJump(65, starts=10, probes=10))
    out = run(attack, Sure(), x, torch.tensor([0]), Linf(0.1), ids=torch.arange(1))
    assert not out.fallen.any()
    assert all(z.isfinite().all() for z in seen)
    assert ((seen[-1] - x).abs() < 1e-6).all()
    assert len(seen) == 65


def test_more_queries_break_more():
    model, (x, y) = small_network(), samples()
    few, many = (
        run(Attack(HopSkipJump(n)), model, x, y, L2(0.8), ids=torch.arange(COUNT)).fallen.sum()
        for n in (150, 1200)
    )
    assert many > few
