from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from spikeproof.runtime._vectors import any_of, fire8, merge, scatter
from tests.oracles.lif import layer


@njit
def fired(x, stride, state, out, theta, tau):
    return fire8(x, 0, stride, state, 0, out, 0, theta, tau, 0, 0)


@njit
def held(x, state, out, theta, tau):
    return fire8(x, 0, 8, state, 0, out, 0, theta, tau, 1, 1)


def test_eight_neurons_run_through_eight_steps():
    currents = np.random.default_rng(0).normal(0.3, 0.4, (8, 8)).astype(np.float32)  # time first
    theta, tau = np.float32(0.7), np.float32(0.6)
    wide = np.zeros((8, 12), np.float32)
    wide[:, :8] = currents.T
    state, out = np.zeros(8, np.float32), np.full(8 * 12, 9, np.float32)
    count = fired(wide.reshape(-1), 12, state, out, theta, tau)
    wanted, last, _ = layer(currents, theta, tau, hard=False)
    assert np.array_equal(out.reshape(8, 12)[:, :8].T, wanted)
    assert (out.reshape(8, 12)[:, 8:] == 9).all()
    assert np.array_equal(state, last)
    assert count == wanted.any(0).sum() > 0


def test_a_held_current_is_the_same_at_every_step():
    current = np.linspace(-0.2, 0.9, 8).astype(np.float32)
    theta, tau = np.float32(0.7), np.float32(0.6)
    state, out = np.full(8, 0.25, np.float32), np.zeros(64, np.float32)
    held(current, state, out, theta, tau)
    train = np.broadcast_to(current, (8, 8))
    wanted, last, _ = layer(train, theta, tau, hard=True, start=np.full(8, 0.25))
    assert np.array_equal(out.reshape(8, 8).T, wanted)
    assert np.array_equal(state, last)


@njit
def spread(out, offsets, w, x):
    scatter(out, 4, offsets, w, 0, len(w), x, 1, 4)


def test_an_event_adds_its_weights_to_what_they_reach():
    out, x = np.zeros(20, np.float32), np.arange(6, dtype=np.float32)
    spread(out, np.array([0, 12, 2], np.int32), np.array([1, 10, 100], np.float32), x)
    wanted = np.zeros(20)
    for offset, weight in ((0, 1), (12, 10), (2, 100)):
        wanted[4 + offset : 8 + offset] += weight * x[1:5]
    assert np.array_equal(out, wanted)


@njit
def both(x):
    merge(x, 0, 8, 1, 4)
    merge(x, 4, 8, 0, 4)


def test_places_are_merged():
    x = np.array([1, 5, 2, 0, 1, 1, 1, 1, 3, 4, -1, 0], np.float32)
    both(x)
    assert x.tolist() == [3, 5, 2, 0, 4, 5, 0, 1, 3, 4, -1, 0]


@njit
def some(x, at):
    return any_of(x, at, 4)


@pytest.mark.parametrize("at", range(5))
def test_any_is_found(at):
    x = np.zeros(8, np.float32)
    x[3] = 0.5
    assert some(x, at) == (at <= 3)
