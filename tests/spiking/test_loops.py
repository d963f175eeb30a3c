from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import njit

from spikeproof.spiking import _loops


@njit
def exponential(values):
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = _loops._exp(values[i])
    return out


def test_the_exponential_is_right_to_its_last_places_and_below_the_normal_numbers():
    x = -np.linspace(0, 110, 200_001).astype(np.float32)
    found, exact = exponential(x).astype(np.float64), np.exp(x.astype(np.float64))
    normal = x > -87
    assert np.abs(found[normal] / exact[normal] - 1).max() < 2e-7
    np.testing.assert_allclose(found[~normal], exact[~normal], rtol=0, atol=3e-45)


def test_the_exponential_of_the_ends():
    x = np.array([0, -0.0, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(exponential(x), np.array([1, 1, 0, np.nan], np.float32))
