from __future__ import annotations

import numpy as np
import pytest

from spikeproof.errors import Refusal
from spikeproof.ir import Conv, Flatten, Graph, Input, Linear, Neurons, Weights


def small():
    kernel = np.zeros((2, 1, 3, 3), np.float32)
    kernel[0, 0, 1, 1] = kernel[1, 0, 0, 2] = 1
    return Graph(
        (
            Input((1, 4, 4), 3),
            Conv(0, Weights.of(kernel), np.zeros(2, np.float32), padding=(1, 1)),
            Neurons(1, 1.0, 0.5),
            Flatten(2),
            Linear(3, Weights.of(np.eye(5, 32, dtype=np.float32)), np.zeros(5, np.float32)),
        ),
        parameters=200,
    )


def test_a_graph_tells_its_sizes_its_readers_and_where_time_is_open():
    graph = small()
    assert (graph.size, graph.kept, graph.classes) == (18 + 160, 7, 5)
    assert graph.weighted == (1, 4)
    assert graph.readers == ((1,), (2,), (3,), (4,), ())
    assert graph.timed == (False, False, True, True, True)
    assert graph.input.steps == 3


@pytest.mark.parametrize("nodes", [(), (Input((1, 2, 2), 1),)])
def test_a_graph_has_an_input_and_a_layer(nodes):
    with pytest.raises(Refusal, match="nodes"):
        Graph(nodes)
