from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.attacks._noise import normal, uniform

MASK = (1 << 64) - 1
SEEDS = torch.tensor([0, 1, 2, -1, 2**62, -(2**62)])


def splitmix(state):
    """The generator as Steele, Lea and Flood print it, in whole numbers of any size."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(seed=st.integers(-(2**63), 2**63 - 1), counter=st.integers(0, 10_000))
def test_the_numbers_are_those_of_the_hash(seed, counter):
    golden = 0x9E3779B97F4A7C15
    stream = splitmix(seed + (counter + 1) * golden)
    expected = [(splitmix(stream + golden * (i + 1)) >> 40) / 2**24 for i in range(5)]
    assert uniform(torch.tensor([seed]), counter, (5,))[0].tolist() == expected


def test_known_answers_of_splitmix64():
    # The first outputs for the seed 1234567, from the reference implementation's page.
    golden = 0x9E3779B97F4A7C15
    first = [splitmix(1234567 + (i + 1) * golden) for i in range(3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_sample_has_its_numbers_in_any_batch():
    whole = uniform(SEEDS, 7, (3, 4))
    order = torch.tensor([4, 0, 5])
    assert torch.equal(uniform(SEEDS[order], 7, (3, 4)), whole[order])
    assert torch.equal(uniform(SEEDS[2:3], 7, (3, 4)), whole[2:3])
    assert torch.equal(uniform(SEEDS, 7, (12,)).reshape(6, 3, 4), whole)
    assert uniform(SEEDS[:0], 7, (3, 4)).shape == (0, 3, 4)


def test_they_are_uniform():
    values = uniform(torch.arange(200), 0, (5000,)).double()
    assert values.min() >= 0
    assert values.max() < 1
    count = values.numel()
    counts = torch.histc(values, 64, 0, 1)
    chi = ((counts - count / 64).square() / (count / 64)).sum().item()
    assert abs(chi - 63) < 5 * math.sqrt(2 * 63)
    assert abs(values.mean().item() - 0.5) < 5 * math.sqrt(1 / 12 / count)
    assert abs(values.var().item() - 1 / 12) < 1e-3


def test_neighbours_of_every_kind_are_independent():
    values = uniform(torch.arange(200), 0, (5000,)).double() - 0.5
    later = uniform(torch.arange(200), 1, (5000,)).double() - 0.5
    bound = 5 / math.sqrt(values.numel()) / 12
    for a, b in (
        (values[:, :-1], values[:, 1:]),  # places
        (values[:-1], values[1:]),  # seeds
        (values, later),  # counters
        (values[1:, :-1], values[:-1, 1:]),  # both at once
    ):
        assert abs((a * b).mean().item()) < bound
    assert len(torch.unique(values[:, :1])) > 195


def test_normal_numbers_are_normal():
    values = normal(torch.arange(200), 3, (2500,)).double()
    assert values.isfinite().all()
    count = values.numel()
    assert abs(values.mean().item()) < 5 / math.sqrt(count)
    assert abs(values.var().item() - 1) < 5 * math.sqrt(2 / count)
    for z in (-2.0, -0.5, 0.0, 1.0, 2.5):
        share = (values < z).double().mean().item()
        assert abs(share - 0.5 * (1 + math.erf(z / math.sqrt(2)))) < 5 * 0.5 / math.sqrt(count)
