from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.errors import Refusal
from spikeproof.spiking import (
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Triangle,
    heaviside,
)
from tests.contracts.surrogate import assert_surrogate
from tests.oracles import rules as oracle

CURVES = [
    *(Triangle(g) for g in (0.1, 0.25, 0.5, 1.0, 2.0, 3.0)),
    *(Rectangle(w) for w in (0.25, 0.5, 1.0, 2.0, 4.0)),
    *(Exponential(a, b) for a in (0.3, 1.0) for b in (0.5, 1.0, 2.0)),
    *(ATan(a) for a in (1.0, 2.0, 16.0)),
    *(Sigmoid(a) for a in (1.0, 4.0)),
    *(Gaussian(a) for a in (1.0, math.sqrt(2 * math.pi))),
    StraightThrough(),
]


@pytest.mark.parametrize("curve", CURVES, ids=repr)
def test_contract(curve):
    assert_surrogate(curve)


@pytest.mark.parametrize(
    ("curve", "formula"),
    [
        (Triangle(0.5), lambda x: oracle.triangle(x, 0.5)),
        (Rectangle(2.0), lambda x: oracle.rectangle(x, 2.0)),
        (Exponential(0.3, 0.5), lambda x: oracle.exponential(x, 0.3, 0.5)),
        (ATan(10.0), lambda x: oracle.arctan(x, 10.0)),
        (Sigmoid(4.0), lambda x: oracle.sigmoid(x, 4.0)),
        (Gaussian(3.0), lambda x: oracle.gaussian(x, 3.0)),
        (StraightThrough(), oracle.straight),
    ],
    ids=lambda value: "formula" if callable(value) else repr(value),
)
def test_slope_is_the_published_formula(curve, formula):
    u = torch.linspace(-4, 4, 1602, dtype=torch.float64)
    np.testing.assert_allclose(curve.slope(u).numpy(), formula(u.numpy()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("curve", "peak"),
    [
        (Triangle(), 1),
        (Triangle(0.25), 4),
        (Sigmoid(4.0), 1),
        (ATan(2.0), 1),
        (Gaussian(), 1),
        (Exponential(0.3, 0.5), 0.3),
        (Rectangle(4.0), 0.25),
        (StraightThrough(), 1),
    ],
    ids=repr,
)
def test_peaks(curve, peak):
    assert curve.slope(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(peak)
    assert curve.height == pytest.approx(peak)


@pytest.mark.parametrize(
    ("a", "omega"),
    [
        (0.35, 1.25),
        (0.41, 2.19),
        (0.425, 2.65),
        (0.43, 2.85),
        (0.435, 3.07),
        (0.45, 4.02),
        (0.46, 5.04),
        (0.485, 13.5),
        (0.49, 20.3),
    ],
)
def test_half_width_is_the_table_of_adaptive_sharpness(a, omega):
    assert ATan(1.0).half_width(2 * a) == pytest.approx(omega, rel=3e-3)


@given(st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_heaviside_fires_at_the_threshold_and_never_for_nan(u):
    assert heaviside(torch.tensor(u)).item() == (1.0 if u >= 0 else 0.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 1e200, 1e-200])
@pytest.mark.parametrize(
    "make",
    [
        Triangle,
        Rectangle,
        ATan,
        Sigmoid,
        Gaussian,
        lambda v: Exponential(a=v),
        lambda v: Exponential(beta=v),
    ],
)
def test_bad_widths_are_refused(make, bad):
    with pytest.raises(Refusal, match="must be a number from 1e-06 to"):
        make(bad)
