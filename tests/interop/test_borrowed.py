from __future__ import annotations

import copy

import pytest
import torch

from spikeproof.interop._borrowed import Borrowed, curve_of
from spikeproof.spiking import (
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
)


class Fires(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, curve):
        ctx.save_for_backward(u)
        ctx.curve = curve
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, d):
        (u,) = ctx.saved_tensors
        return d * ctx.curve.slope(u), None


def lent(curve: Surrogate) -> Borrowed:
    return Borrowed(lambda u: Fires.apply(u, curve))


@pytest.mark.parametrize("curve", [Triangle(0.5), Sigmoid(4.0), ATan(2.0), Gaussian()])
def test_a_borrowed_curve_is_the_curve(curve):
    other, u = lent(curve), torch.linspace(-3, 3, 301)
    assert torch.equal(other.slope(u), curve.slope(u))
    assert other.height == pytest.approx(curve.height)
    assert torch.allclose(other.primitive(u), curve.primitive(u), atol=2e-3)
    for share in (0.25, 0.5, 0.85):
        assert other.half_width(share) == pytest.approx(curve.half_width(share), rel=5e-3)


def test_its_integral_ends_and_has_the_type_of_its_input():
    far = torch.tensor([-1e9, 1e9], dtype=torch.float64)
    ends = lent(Triangle()).primitive(far)
    assert ends.dtype == torch.float64
    assert ends.tolist() == pytest.approx([0, 1], abs=1e-3)


def test_a_bare_step_has_no_slope():
    assert not Borrowed(lambda u: (u > 0).float()).slope(torch.ones(3)).any()


def test_it_asks_where_gradients_are_off_and_survives_a_copy():
    with torch.no_grad():
        assert copy.deepcopy(lent(Triangle())).slope(torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "curve",
    [
        ATan(2.0),
        ATan(0.5),
        Sigmoid(4.0),
        Triangle(0.7),
        Rectangle(2.0),
        Gaussian(),
        StraightThrough(),
    ],
)
def test_a_curve_of_ours_is_known_by_its_slopes(curve):
    known, u = curve_of(lent(curve).function), torch.linspace(-4, 4, 99)
    assert type(known) is type(curve)
    assert torch.allclose(known.slope(u), curve.slope(u), rtol=1e-5)


@pytest.mark.parametrize("curve", [Exponential(1.0, 2.0), Triangle(1e-4)])
def test_any_other_is_borrowed(curve):
    assert isinstance(curve_of(lent(curve).function), Borrowed)


def test_a_surrogate_that_draws_leaves_the_global_generator_alone():
    def noisy(u):
        return Fires.apply(u + 0 * torch.rand_like(u), Triangle(1.0))

    before = torch.get_rng_state()
    assert curve_of(noisy) == Triangle(1.0)
    assert torch.equal(torch.get_rng_state(), before)
