from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.compress import Magnitude, allocate, kept_count
from spikeproof.compress._allocation import rounded
from spikeproof.seeding import generator
from tests.compress.descent import linear, network
from tests.oracles import pruning

SHAPES = [(8, 3, 3, 3), (16, 8, 3, 3), (40, 64), (10, 40), (4, 10)]


def weights(seed=0):
    draw = generator(seed, "weights")
    return {
        f"l{i}": torch.randn(shape, generator=draw, dtype=torch.float64) * (i + 1) ** -0.5
        for i, shape in enumerate(SHAPES)
    }


@pytest.mark.parametrize("kappa", [0.0, 0.5, 0.9, 0.95, 0.99])
def test_every_layer_keeps_the_same_share_or_all_together_do(kappa):
    given_ = weights()
    sizes = {name: w.numel() for name, w in given_.items()}
    each = allocate(given_, kappa, "layer")
    assert each == {name: n - int(kappa * n) for name, n in sizes.items()}
    for how in ("global", "erk", "lamp"):
        counts = allocate(given_, kappa, how)
        assert sum(counts.values()) == kept_count(sum(sizes.values()), kappa)
        assert all(0 <= counts[name] <= n for name, n in sizes.items())


@pytest.mark.parametrize("kappa", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_erk_is_that_of_the_oracle(kappa):
    counts = list(allocate(weights(), kappa, "erk").values())
    total = sum(counts)
    shares = pruning.erk(SHAPES, total)
    assert sum(shares) == pytest.approx(total)
    assert all(abs(count - share) < 1 for count, share in zip(counts, shares, strict=True))
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    dense = [share == size for share, size in zip(shares, sizes, strict=True)]
    assert any(dense) == (kappa <= 0.7), "the test meets layers that stay dense, and none"


def test_erk_densities_are_in_proportion_to_sums_over_products():
    counts = allocate(weights(), 0.995, "erk")
    raw = [sum(shape) / np.prod(shape) for shape in SHAPES]
    found = [n / np.prod(shape) for n, shape in zip(counts.values(), SHAPES, strict=True)]
    exact = np.array(raw) * kept_count(sum(int(np.prod(s)) for s in SHAPES), 0.995)
    exact /= sum(sum(shape) for shape in SHAPES)
    off = np.abs(np.array(found) - exact) * [np.prod(shape) for shape in SHAPES]
    assert off.max() < 1


@pytest.mark.parametrize("kappa", [0.3, 0.9, 0.97])
def test_lamp_is_that_of_the_oracle(kappa):
    model = linear(12, 9, 7, 3)
    masks = Magnitude(kappa, "lamp").masks(model)
    oracle = pruning.lamp([m.weight.detach().numpy() for m in model[::2]], masks.weights)
    for mask, wanted in zip(masks.kept.values(), oracle, strict=True):
        assert np.array_equal(mask.numpy(), wanted)


def test_lamp_does_not_care_for_the_scale_of_a_layer_and_empties_none():
    scaled = {name: w * 10.0**-i for i, (name, w) in enumerate(weights().items())}
    assert allocate(scaled, 0.95, "lamp") == allocate(weights(), 0.95, "lamp")
    assert min(allocate(scaled, 0.99, "lamp").values()) >= 1
    assert min(allocate(scaled, 0.95, "global").values()) == 0, "as the largest of all do"
    silent = {"a": torch.zeros(3, 3), "b": torch.ones(3, 3)}
    assert allocate(silent, 0.5, "lamp") == {"a": 0, "b": 9} or allocate(silent, 0.5, "lamp")["b"]


def test_the_largest_of_all_are_larger_than_all_others():
    model = network()
    masks = Magnitude(0.9, "global").masks(model)
    sizes = {n: w.detach().abs() for n, w in model.named_parameters() if n in masks.kept}
    kept = torch.cat([sizes[n][m] for n, m in masks.kept.items()])
    gone = torch.cat([sizes[n][~m] for n, m in masks.kept.items()])
    assert kept.min() >= gone.max()


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 500)), min_size=1, max_size=8))
def test_rounding_keeps_the_sum_and_stays_within_one(layers):
    sizes = {str(i): n for i, (_, n) in enumerate(layers)}
    shares = {str(i): share * n for i, (share, n) in enumerate(layers)}
    total = int(sum(shares.values()))
    counts = rounded(shares, total, sizes)
    assert sum(counts.values()) == total
    assert all(abs(counts[name] - share) <= 1 for name, share in shares.items())
    assert all(counts[name] <= sizes[name] for name in sizes)
