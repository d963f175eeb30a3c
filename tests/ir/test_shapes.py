from __future__ import annotations

import numpy as np
import pytest

from spikeproof.errors import Refusal
from spikeproof.ir import (
    Add,
    Affine,
    Conv,
    Flatten,
    Graph,
    Input,
    Linear,
    Neurons,
    Pool,
    Weights,
    map_shapes,
)


def conv(source, outputs, inputs, size=3, **more):
    weights = Weights.of(np.ones((outputs, inputs, size, size), np.float32))
    return Conv(source, weights, np.zeros(outputs, np.float32), **more)


def linear(source, outputs, inputs):
    weights = Weights.of(np.ones((outputs, inputs), np.float32))
    return Linear(source, weights, np.zeros(outputs, np.float32))


IMAGE = Input((3, 9, 8), 4)


def test_maps_have_the_sides_that_windows_leave():
    nodes = (
        IMAGE,
        conv(0, 5, 3, stride=(2, 1), padding=(1, 0)),
        Neurons(1, 1.0, 0.5),
        Pool(2, "max", (2, 3), (2, 2), (0, 1)),
        Flatten(3),
        linear(4, 7, 5 * 2 * 3),
    )
    assert map_shapes(nodes) == ((3, 9, 8), (5, 5, 6), (5, 5, 6), (5, 2, 3), (30,), (7,))


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ((IMAGE, conv(0, 2, 4)), "channels"),
        ((IMAGE, linear(0, 2, 3)), "axes"),
        ((IMAGE, Flatten(0), linear(1, 2, 3)), "channels"),
        ((IMAGE, conv(0, 2, 3, 9)), "fit"),
        ((IMAGE, Flatten(1)), "earlier"),
        ((IMAGE, Flatten(-1)), "earlier"),
        ((Flatten(0), IMAGE), "first"),
        ((IMAGE, IMAGE), "first"),
        ((IMAGE, conv(0, 2, 3)), "row"),
        ((IMAGE, Flatten(0), Affine(0, np.ones(2, np.float32), np.ones(2, np.float32))), "channel"),
        ((IMAGE, conv(0, 2, 3), Add(0, 1), Flatten(2)), "alike"),
        ((IMAGE, Neurons(0, 1.0, 1.0), Add(0, 1), Flatten(2)), "time"),
        ((Input((64, 4096, 4096), 4), Neurons(0, 1.0, 1.0), Flatten(1)), "values"),
    ],
)
def test_what_does_not_fit_is_refused(nodes, word):
    with pytest.raises(Refusal, match=word):
        Graph(nodes)
