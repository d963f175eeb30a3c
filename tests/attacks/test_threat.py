from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.attacks import L0, L1, L2, Linf
from spikeproof.attacks._noise import uniform
from spikeproof.attacks._threat import SLACK
from spikeproof.errors import Refusal
from spikeproof.seeding import generator

BALLS = (Linf(0.3), L2(0.8), L1(1.5), L0(3.0))
each = pytest.mark.parametrize("ball", BALLS, ids=lambda b: b.kind)
seeds = given(seed=st.integers(0, 2**31))


def inputs(seed, count=5, width=7, spread=1.0):
    source = generator(seed, "threat")
    x = torch.rand(count, 1, 1, width, generator=source)
    x[0].flatten()[:3] = torch.tensor([0.0, 1.0, 0.0])
    return x, x + spread * torch.randn(x.shape, generator=source)


def size(kind, delta):
    d = delta.double().flatten(1)
    return {
        "linf": d.abs().amax(1),
        "l2": d.norm(dim=1),
        "l1": d.abs().sum(1),
        "l0": (d != 0).sum(1).double(),
    }[kind]


@each
@seeds
def test_a_projection_is_admissible_and_stays(ball, seed):
    x, wild = inputs(seed)
    made = ball.project(wild, x)
    assert ball.admits(made, x).all()
    assert made.min() >= 0
    assert made.max() <= 1
    assert (size(ball.kind, made - x) <= ball.eps + 2 * SLACK).all()
    again = ball.project(made, x)
    torch.testing.assert_close(again, made, atol=2e-6, rtol=0)
    assert torch.equal(ball.project(x, x), x)
    torch.testing.assert_close(ball.size(made, x).double(), size(ball.kind, made - x))


@each
@seeds
def test_a_projection_is_its_own_rows_affair(ball, seed):
    x, wild = inputs(seed)
    whole = ball.project(wild, x)
    order = torch.tensor([3, 1])
    assert torch.equal(ball.project(wild[order], x[order]), whole[order])
    assert ball.project(wild[:0], x[:0]).shape == (0, *x.shape[1:])


def nearest_in_l1(wild, x, eps):
    """Cuts (|d| - t)+ at its room for the t that spends eps, in float64 by 200 halvings."""
    d, room = wild - x, np.where(wild > x, 1 - x, x)

    def cut(t):
        return np.minimum(np.maximum(np.abs(d) - t, 0), room)

    low, high = 0.0, np.abs(d).max()
    if cut(0.0).sum() <= eps:
        high = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if cut(middle).sum() > eps else (low, middle)
    return x + np.sign(d) * cut(high)


@seeds
def test_the_projection_onto_l1_and_range_is_the_nearest_point(seed):
    ball = L1(0.9)
    x, wild = inputs(seed, spread=0.7)
    made = ball.project(wild, x).double().flatten(1).numpy()
    x, wild = x.double().flatten(1).numpy(), wild.double().flatten(1).numpy()
    for i in range(len(x)):
        best = nearest_in_l1(wild[i], x[i], ball.eps)
        np.testing.assert_allclose(made[i], best, atol=3e-6)


@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("ball", [Linf(0.3), L1(0.9)], ids=["linf", "l1"])
def test_no_admissible_point_is_nearer(ball, seed):
    """The angle between what was cut off and the way to any other point is not acute."""
    x, wild = inputs(seed, count=2)
    made = ball.project(wild, x)
    noise = torch.arange(2) + seed
    for draw in range(20):
        other = ball.random(x, lambda shape, draw=draw: uniform(noise, draw, shape))
        inner = ((wild - made) * (other - made)).flatten(1).sum(1)
        assert (inner <= 1e-5 * (1 + wild.abs().amax())).all()


@given(seed=st.integers(0, 2**31))
def test_l0_keeps_the_largest_changes_that_the_range_allows(seed):
    x, wild = inputs(seed)
    made = L0(2.0).project(wild, x)
    change = (wild.clamp(0, 1) - x).flatten(1).abs()
    kept = (made != x).flatten(1)
    assert (kept.sum(1) <= 2).all()
    least = torch.where(kept, change, torch.inf).amin(1)
    most = torch.where(kept, 0, change).amax(1)
    assert (least >= most).all()
    assert torch.equal(made[kept.reshape(x.shape)], wild.clamp(0, 1)[kept.reshape(x.shape)])


@pytest.mark.parametrize("ball", [Linf(0.3), L2(0.8), L1(1.5)], ids=lambda b: b.kind)
@seeds
def test_the_steepest_step_has_size_one_and_attains_the_dual_norm(ball, seed):
    slope = torch.randn(4, 1, 1, 7, generator=generator(seed, "slope"))
    step = ball.steepest(slope)
    torch.testing.assert_close(size(ball.kind, step), torch.ones(4).double(), rtol=1e-5, atol=0)
    dual = {"linf": 1, "l2": 2, "l1": math.inf}[ball.kind]
    gain = (step * slope).flatten(1).sum(1)
    torch.testing.assert_close(gain, torch.linalg.vector_norm(slope.flatten(1), dual, dim=1))


@each
def test_no_gradient_is_no_step(ball):
    assert torch.equal(ball.steepest(torch.zeros(2, 1, 1, 4)), torch.zeros(2, 1, 1, 4))


@each
def test_random_starts_use_the_budget_and_differ(ball):
    x = torch.full((300, 1, 1, 40), 0.5)
    names = torch.arange(300)
    for method in (ball.random, ball.corner):
        made = method(x, lambda shape: uniform(names, 1, shape))
        assert ball.admits(made, x).all()
        used = size(ball.kind, made - x)
        assert (used > (0.8 if ball.kind == "linf" else 0.99) * ball.eps).all()
        assert len(torch.unique((made - x).flatten(1), dim=0)) > 250
        mean = (made - x).mean().item()
        assert abs(mean) < 0.02


@each
def test_only_what_lies_within_is_admitted(ball):
    x = torch.full((1, 1, 1, 8), 0.5)
    move = torch.zeros_like(x)
    if ball.kind == "l0":
        move.flatten(1)[:, :3] = 0.2
        more = move.clone()
        more.flatten(1)[:, 3] = 1e-5
    else:
        move.flatten(1)[:, 0] = ball.eps if ball.kind == "linf" else 0.4
        move.flatten(1)[:, 1] = 0.0 if ball.kind == "linf" else -0.4
        move = move * (ball.eps / size(ball.kind, move)).clamp_max(1).float()
        more = move * 1.001 * (ball.eps / size(ball.kind, move)).float()
    assert ball.admits(x + move, x).all()
    wide = type(ball)(ball.eps, low=-9.0, high=9.0)
    assert not wide.admits(x + more, x).any()
    for value in (torch.nan, torch.inf, -torch.inf, 1 + 1e-4, -1e-4):
        bad = x.clone()
        bad.flatten()[0] = value
        assert not ball.admits(bad, x).any()
        # Nor where the clean input is as wrong: the range holds for what an attacker hands in.
        assert not ball.admits(bad, bad).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Linf(8), "did you mean 8/255"),
        (lambda: Linf(-0.1), "a budget is a number from 0 on"),
        (lambda: L2(math.nan), "a budget is a number from 0 on"),
        (lambda: L1(math.inf), "a budget is a number from 0 on"),
        (lambda: L0(2.5), "take a whole number"),
        (lambda: L2(1.0, low=1.0, high=0.0), "images have 0..1"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(make, words):
    with pytest.raises(Refusal, match=words):
        make()


def test_eight_grey_values_of_a_sensor_that_counts_to_255_are_fine():
    assert Linf(8, low=0, high=255).eps == 8
