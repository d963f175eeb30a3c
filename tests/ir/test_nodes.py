from __future__ import annotations

import numpy as np
import pytest

from spikeproof.errors import Refusal
from spikeproof.ir import Add, Affine, Conv, Input, Linear, Neurons, Pool, Weights


def f32(*shape):
    return np.zeros(shape, np.float32)


def test_weights_are_what_is_not_zero():
    dense = np.array([[0, 1.5, 0], [-2, 0, 0]], np.float32)
    weights = Weights.of(dense)
    assert weights.positions.tolist() == [1, 3]
    assert weights.values.tolist() == [1.5, -2]
    assert (weights.size, weights.kept) == (6, 2)
    assert np.array_equal(weights.dense(), dense)


@pytest.mark.parametrize(
    ("shape", "positions", "values", "word"),
    [
        ((), [0], [1], "shape"),
        ((2, 0), [], [], "shape"),
        ((2, 2), [1, 1], [1, 2], "rise"),
        ((2, 2), [4], [1], "rise"),
        ((2, 2), [0, 1], [1], "rise"),
        ((2, 2), [0], [np.nan], "finite"),
    ],
)
def test_weights_that_cannot_be_are_refused(shape, positions, values, word):
    with pytest.raises(Refusal, match=word):
        Weights(shape, np.array(positions, np.uint32), np.array(values, np.float32))


def test_places_and_values_have_their_types():
    with pytest.raises(Refusal, match="uint32"):
        Weights((4,), np.arange(2), f32(2))


CONV = Weights.of(np.ones((2, 3, 3, 3), np.float32))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Input((3, 8), 4),
        lambda: Input((3, 8, 8), 0),
        lambda: Input((3, 8, 8), 4, mean=(0.0, 0.0), std=(1.0, 1.0)),
        lambda: Input((3, 8, 8), 4, std=(0.0,)),
        lambda: Input((3, 8, 8), 4, "poisson"),
        lambda: Input((3, 8, 8), 4, "direct", noise=f32(4, 3, 8, 8)),
        lambda: Input((3, 8, 8), 4, "poisson", noise=f32(4, 3, 8, 7)),
        lambda: Conv(0, CONV, f32(3)),
        lambda: Conv(0, CONV, f32(2), padding=(3, 0)),
        lambda: Conv(0, CONV, f32(2), stride=(0, 1)),
        lambda: Conv(0, Weights.of(np.ones((2, 3), np.float32)), f32(2)),
        lambda: Linear(0, CONV, f32(2)),
        lambda: Linear(0, Weights.of(np.ones((2, 3), np.float32)), f32(2).astype(np.float64)),
        lambda: Neurons(0, 0.0, 0.5),
        lambda: Neurons(0, float("nan"), 0.5),
        lambda: Neurons(0, 1.0, 1.5),
        lambda: Pool(0, "avg", (2, 2), (2, 2), (2, 0)),
        lambda: Pool(0, "avg", (3, 3), (2, 2), (2, 0)),
        lambda: Affine(0, f32(2), f32(3)),
        lambda: Add(0, 1, (1.0, float("inf"))),
    ],
)
def test_nodes_that_cannot_be_are_refused(make):
    with pytest.raises(Refusal):
        make()


def test_a_code_tells_what_it_gives():
    def kind(code, **more):
        node = Input((1, 2, 2), 2, code, **more)
        return node.static, node.events, node.analog

    assert kind("direct") == (True, False, True)
    assert kind("averaged") == (True, True, True)
    assert kind("frames") == (False, True, True)
    assert kind("phase") == (False, False, False)
    assert kind("poisson", noise=f32(2, 1, 2, 2)) == (False, False, False)
