from __future__ import annotations

import itertools

import torch

from spikeproof.attacks import L0, Attack, SparseSearch, run
from tests.contracts.attack import COUNT, samples, small_network


def test_it_comes_near_exhaustive_search_of_one_value():
    """Of one value moved to either end, all 128 possibilities are tried."""
    model, (x, y) = small_network(), samples()
    right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    truth = torch.zeros(len(x), dtype=torch.bool)
    for place, end in itertools.product(range(64), (0.0, 1.0)):
        moved = x.flatten(1).clone()
        moved[:, place] = end
        truth |= model(moved.reshape(x.shape)).argmax(1) != y
    found = run(Attack(SparseSearch(50)), model, x, y, L0(1.0), ids=torch.arange(len(x)))
    assert not (found.fallen & ~truth).any()
    assert found.fallen.sum() >= 0.6 * truth.sum()


def test_more_values_break_more():
    model, (x, y) = small_network(), samples()
    broken = [
        int(run(Attack(SparseSearch(30)), model, x, y, L0(k), ids=torch.arange(COUNT)).fallen.sum())
        for k in (0.0, 2.0, 5.0, 64.0)
    ]
    assert broken == sorted(broken)
    assert broken[-1] == COUNT


def test_it_moves_nothing_that_does_not_pay():
    class Half(torch.nn.Module):
        """Only the first value counts, and it is at its end already."""

        def forward(self, x):
            seen.append(x.detach().clone())
            return torch.stack([2 - x[:, 0, 0, 0], torch.zeros(len(x))], 1)

    seen = []
    x = torch.full((1, 1, 2, 2), 0.5)
    x[0, 0, 0, 0] = 1.0
    run(Attack(SparseSearch(3)), Half(), x, torch.tensor([0]), L0(2.0), ids=torch.arange(1))
    assert all(torch.equal(z[:1], x) for z in seen)
