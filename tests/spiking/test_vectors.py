from __future__ import annotations

import numpy as np
import pytest

_vectors = pytest.importorskip("spikeproof.spiking._vectors")

SIZES = [1, 15, 16, 17, 40]


def line(x: np.ndarray, stride: int = 0) -> tuple[int, int]:
    return x.ctypes.data, stride


def apply(body, x: np.ndarray, **numbers: float) -> np.ndarray:
    """Runs a body over ``x``, in vectors as far as they go and the first elements one by one."""
    loop, out = _vectors.compiled(body), np.empty_like(x)
    loop(len(x), {"x": line(x), "y": line(out)}, numbers)
    few = x[: _vectors.WIDTH - 1]
    alone = out.copy()
    alone[: len(few)] = np.nan
    loop(len(few), {"x": line(few), "y": line(alone)}, numbers)
    np.testing.assert_array_equal(out, alone)
    return out


def test_the_exponential_is_right_to_its_last_places_and_below_the_normal_numbers():
    x = -np.linspace(0, 110, 200_001).astype(np.float32)
    found = apply(lambda lane: lane.store("y", 0, lane.load("x").exp()), x).astype(np.float64)
    exact = np.exp(x.astype(np.float64))
    normal = x > -87
    assert np.abs(found[normal] / exact[normal] - 1).max() < 2e-7
    np.testing.assert_allclose(found[~normal], exact[~normal], rtol=0, atol=3e-45)


def test_the_exponential_of_the_ends():
    x = np.array([0, -0.0, -np.inf, np.nan], np.float32)
    found = apply(lambda lane: lane.store("y", 0, lane.load("x").exp()), x)
    np.testing.assert_array_equal(found, np.array([1, 1, 0, np.nan], np.float32))


@pytest.mark.parametrize("size", SIZES)
def test_arithmetic_is_that_of_float32_in_its_order(size):
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    a, third = np.float32(0.7), np.float32(1 / 3)

    def body(lane):
        x = lane.load("x")
        y = lane.number("a") * x + 1 / 3 - 2 / (x * x + 1)
        lane.store("y", 0, (abs(x)).compare("<", 1).chosen(y, 1 - x / 3))

    expected = np.where(
        np.abs(x) < 1,
        a * x + third - np.float32(2) / (x * x + np.float32(1)),
        np.float32(1) - x / np.float32(3),
    )
    np.testing.assert_array_equal(apply(body, x, a=0.7), expected)


def test_a_comparison_with_no_number_is_false():
    x = np.array([np.nan, 0, -0.0, -1e-45], np.float32)
    found = apply(lambda n: n.store("y", 0, n.load("x").compare(">=", 0).chosen(1, 0)), x)
    np.testing.assert_array_equal(found, np.array([0, 1, 1, 0], np.float32))


@pytest.mark.parametrize("size", SIZES)
def test_steps_lie_a_stride_apart_and_totals_take_them_all(size):
    steps = 2
    x = np.random.default_rng(size).standard_normal((steps, size)).astype(np.float32)
    total, y = np.zeros(_vectors.WIDTH), np.empty_like(x)

    def body(lane):
        for t in range(steps):
            value = lane.load("x", t) * 2
            lane.store("y", t, value)
            lane.add("total", value)

    lines = {"x": line(x, size), "y": line(y, size), "total": line(total)}
    _vectors.compiled(body)(size, lines, {})
    np.testing.assert_array_equal(y, 2 * x)
    np.testing.assert_allclose(total.sum(), y.astype(np.float64).sum(), rtol=1e-12, atol=1e-12)


def test_what_is_stored_past_the_caches_arrives():
    x = np.arange(100, dtype=np.float32)
    room = np.zeros(200, np.float32)
    begin = -room.ctypes.data % _vectors.ALIGNED // 4
    out = room[begin : begin + 100]
    loop = _vectors.compiled(lambda n: n.store("y", 0, n.load("x") + 1), past_caches=True)
    loop(100, {"x": line(x), "y": line(out)}, {})
    np.testing.assert_array_equal(out, x + 1)


@pytest.mark.parametrize("length", [1, 16, 21])
def test_windows_are_made_of_their_corners(length):
    rows, across, weights = 3, 2, np.array([[1, 10], [100, 1000]], np.float32)
    x = np.random.default_rng(length).integers(0, 9, (2 * rows, 2 * across, length))
    x, out = x.astype(np.float32), np.zeros((rows, across, length), np.float32)

    def body(lane):
        a, b, c, d = (corner.load("x") for corner in lane.corners)
        lane.store("y", 0, a + b * 10 + c * 100 + d * 1000)

    lines = {"x": line(x), "y": line(out)}
    _vectors.compiled(body)(length, lines, {}, rows * across, across)
    places = x.reshape(rows, 2, across, 2, length)
    np.testing.assert_array_equal(out, np.einsum("riwjc,ij->rwc", places, weights))
