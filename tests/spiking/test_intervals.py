from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikeproof.errors import Refusal
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import Changes, Interval
from spikeproof.spiking._intervals import (
    FLOAT32,
    affine,
    changed_convolution,
    changed_dense,
    margin_of_sums,
)


def dense(inputs, outputs):
    with isolated(0):
        return nn.Linear(inputs, outputs).double().requires_grad_(False)


def reached(layer, x, k):
    """All outputs of binary inputs with up to k flips."""
    inputs = [x]
    for count in range(1, k + 1):
        for places in itertools.combinations(range(x.numel()), count):
            other = x.clone().flatten()
            other[list(places)] = 1 - other[list(places)]
            inputs.append(other.reshape(x.shape))
    return layer(torch.stack(inputs))


def binary(x, k):
    zero = torch.zeros_like(x)
    return Changes(x, zero, zero + 1, k, "l0", zero)


def test_a_dense_layer_between_two_bounds_is_exact():
    layer, draw = dense(5, 4), generator(0, "dense")
    low = torch.randn((3, 5), generator=draw, dtype=torch.float64)
    high = low + torch.rand((3, 5), generator=draw, dtype=torch.float64)
    out = affine(Interval(low, high), functional.linear, layer.weight, layer.bias, 0.0)
    ends = itertools.product(*[(0, 1)] * 5)
    every = torch.stack([layer(torch.where(torch.tensor(e) > 0, high, low)) for e in ends])
    torch.testing.assert_close(out.lower, every.amin(0))
    torch.testing.assert_close(out.upper, every.amax(0))


@pytest.mark.parametrize("k", [0, 1, 2, 9])
def test_few_changes_before_a_dense_layer_are_exact(k):
    layer = dense(6, 4)
    x = (torch.rand(6, generator=generator(k, "x"), dtype=torch.float64) < 0.5).double()
    out, every = changed_dense(binary(x[None], k), layer, 0.0), reached(layer, x, min(k, 6))
    torch.testing.assert_close(out.lower[0], every.amin(0))
    torch.testing.assert_close(out.upper[0], every.amax(0))


@pytest.mark.parametrize("stride", [1, 2])
def test_few_changes_before_a_convolution_are_exact(stride):
    with isolated(0):
        layer = nn.Conv2d(2, 3, 3, stride, padding=1).double().requires_grad_(False)
    x = (torch.rand((2, 3, 3), generator=generator(0, "x"), dtype=torch.float64) < 0.5).double()
    out, every = changed_convolution(binary(x[None], 2), layer, 0.0), reached(layer, x, 2)
    torch.testing.assert_close(out.lower[0], every.amin(0))
    torch.testing.assert_close(out.upper[0], every.amax(0))


def test_a_budget_in_l1_buys_the_largest_weight():
    layer, x = dense(5, 4), torch.full((1, 5), 0.5).double()
    zero = torch.zeros_like(x)
    out = changed_dense(Changes(x, zero, zero + 1, 0.3, "l1", zero), layer, 0.0)
    gain = 0.3 * layer.weight.abs().amax(1)
    torch.testing.assert_close(out.upper - layer(x), gain[None])
    whole = changed_dense(Changes(x, zero, zero + 1, 100.0, "l1", zero), layer, 0.0)
    torch.testing.assert_close(whole.upper - layer(x), 0.5 * layer.weight.abs().sum(1)[None])


def test_rounding_widens_by_the_bound_of_the_literature_and_too_long_sums_are_refused():
    assert margin_of_sums(92, FLOAT32) == pytest.approx(100 * FLOAT32, rel=1e-4)
    assert margin_of_sums(5, 0.0) == 0
    with pytest.raises(Refusal, match="narrower"):
        margin_of_sums(2**24, FLOAT32)
    layer, x = dense(5, 2), torch.ones(1, 5).double()
    out = affine(Interval(x, x), functional.linear, layer.weight, layer.bias, FLOAT32)
    gap = (out.upper - out.lower)[0]
    size = layer.weight.abs().sum(1) + layer.bias.abs()
    torch.testing.assert_close(gap, 2 * margin_of_sums(5, FLOAT32) * size)
