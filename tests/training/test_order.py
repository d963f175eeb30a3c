from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.training import SGD, Plan
from spikeproof.training._order import batches


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_every_sample_comes_once_and_none_comes_alone(samples, batch, epoch):
    parts = batches(samples, Plan(4, batch, SGD(0.1)), epoch)
    assert sorted(torch.cat(parts).tolist()) == list(range(samples))
    assert all(len(part) <= batch + 1 for part in parts)
    if batch > 1 and samples > 1:
        assert min(map(len, parts)) > 1
    assert len(batches(samples, Plan(4, batch, SGD(0.1)), epoch + 1)) == len(parts)


def test_epochs_and_seeds_have_their_own_order():
    orders = [
        tuple(torch.cat(batches(50, Plan(4, 8, SGD(0.1), seed=seed), epoch)).tolist())
        for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]
    ]
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3
