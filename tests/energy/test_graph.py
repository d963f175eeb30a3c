from __future__ import annotations

import numpy as np
import pytest

from spikeproof.compress import lower
from spikeproof.energy import fan_out, operations, published
from spikeproof.errors import Refusal
from spikeproof.ir import Conv, Flatten, Graph, Input, Linear, Neurons, Pool, Weights
from spikeproof.models import VGG16, Setting, build
from spikeproof.runtime import Activity, Engine, trace

UNIFORM = (1.7, 1.1, 1.5, 0.6, 0.9, 0.65, 0.25, 0.25, 0.95, 0.2, 3.9, 4.25, 2.4, 2.5, 3.85)
LEARNED = (
    1.27, 1.1, 1.45, 0.75, 0.85, 0.82, 0.36, 0.55, 1.16, 0.92, 1.98, 3.35, 2.17, 2.08, 4.83,
)  # fmt: skip
CONNECTED = (
    0.62, 0.62, 0.54, 0.63, 0.46, 0.35, 0.16, 0.04, 0.03, 0.03, 0.03, 0.03, 0.11, 0.79, 0.86,
)  # fmt: skip


def drawn(seed):
    """Any geometry of two convolutions, with a pool between them, and a dense layer."""
    rng = np.random.default_rng(seed)

    def sparse(*shape):
        return Weights.of((rng.random(shape) < 0.4) * rng.normal(0, 1, shape).astype(np.float32))

    def pair(low, high):
        return tuple(int(v) for v in rng.integers(low, high, 2))

    kernel = pair(1, 4)
    pad = tuple(int(rng.integers(0, k)) for k in kernel)
    nodes = [
        Input((2, 9, 11), 3, "frames"),
        Conv(0, sparse(3, 2, *kernel), np.zeros(3, np.float32), pair(1, 4), pad),
        Neurons(1, 0.5, 0.9),
        Conv(2, sparse(4, 3, 2, 1), np.zeros(4, np.float32), (1, 2), (1, 0)),
        Neurons(3, 0.5, 1.0),
        Pool(4, "max" if seed % 2 else "avg", (2, 2), (1, 2)),
        Flatten(5),
    ]
    width = Graph(tuple(nodes)).shapes[-1][0] if seed >= 0 else 0
    nodes.append(Linear(6, sparse(5, width), np.zeros(5, np.float32)))
    return Graph(tuple(nodes))


def counted(graph, place, source):
    """Every event walks through every window that it is in: the definition, weight by weight."""
    node, total = graph.nodes[place], 0
    weight = node.weights.dense() != 0
    if isinstance(node, Linear):
        return sum(int(weight[:, f].sum()) for _, f in np.argwhere(source))
    high, wide = graph.shapes[place][1:]
    for _, c, y, x in np.argwhere(source):
        for v in range(high):
            for u in range(wide):
                ky, kx = (
                    (y + node.padding[0] - v * node.stride[0]),
                    (x + node.padding[1] - u * node.stride[1]),
                )
                if 0 <= ky < weight.shape[2] and 0 <= kx < weight.shape[3]:
                    total += int(weight[:, c, ky, kx].sum())
    return total


@pytest.mark.parametrize("seed", range(8))
def test_operations_are_the_events_counted_one_by_one(seed):
    graph = drawn(seed)
    x = (np.random.default_rng(seed).random((2, 3, 2, 9, 11)) < 0.4).astype(np.float32)
    activity = Activity()
    Engine(graph)(x, activity)
    found = operations(graph, activity.events, activity.samples)
    maps = trace(graph, x).maps
    assert [layer.name for layer in found.layers] == ["1:conv", "3:conv", "7:linear"]
    for layer, place in zip(found.layers, graph.weighted, strict=True):
        source = maps[graph.nodes[place].sources[0]]
        wanted = sum(counted(graph, place, source[:, sample]) for sample in range(2))
        assert layer.operations * 2 == wanted
        assert layer.events * 2 == np.count_nonzero(source)
        assert layer.dense >= layer.operations
    assert [layer.reads for layer in found.layers] == [
        "analog", "spikes", "spikes" if seed % 2 else "graded",
    ]  # fmt: skip
    sizes = [np.prod(graph.shapes[place]) * 3 for place in (2, 4)]
    assert found.updates == sum(sizes)
    assert found.leaky == sizes[0]
    parts = found.analog + found.behind_neurons
    assert parts == found.synaptic + found.multiplied == sum(x.operations for x in found.layers)


def test_a_full_layer_meets_all_of_its_weights():
    graph = drawn(0)
    for place in graph.weighted:
        node = graph.nodes[place]
        every = fan_out(graph, place, dense=True)
        assert every.shape == graph.shapes[node.source]
        assert (fan_out(graph, place) <= every).all()
    assert (fan_out(graph, 7, dense=True) == 5).all()
    with pytest.raises(Refusal, match="neurons"):
        fan_out(graph, 2)
    with pytest.raises(Refusal, match="samples"):
        operations(graph, {}, 0)


@pytest.mark.slow
def test_the_sums_of_figure_b1():
    graph = lower(build(VGG16(), Setting(T=8)).eval(), (3, 32, 32), keep_dead=True)
    layers = [p for p, node in enumerate(graph.nodes) if isinstance(node, Neurons)]
    sizes = [int(np.prod(graph.shapes[place])) for place in layers]
    assert sum(sizes) == 276_992

    def spikes(rates):
        return {p: rate * n for p, rate, n in zip(layers, rates, sizes, strict=True)}

    # Printed beside the figure: 3.17e5 and 3.02e5. Its rates are read off with two digits.
    assert sum(spikes(UNIFORM).values()) == pytest.approx(3.17e5, rel=0.01)
    assert sum(spikes(LEARNED).values()) == pytest.approx(3.02e5, rel=0.01)
    # Operations of dense layers, times the connectivity of what each layer of neurons feeds; the
    # figure lacks the last layer's. Printed is 6.12 / 2.15 = 2.85; its bars give 3.1.
    uniform = sum(0.1 * count for count in published(graph, spikes(UNIFORM)).values())
    dense = published(graph, spikes(LEARNED)).values()
    learned = sum(share * count for share, count in zip((*CONNECTED[1:], 1.0), dense, strict=True))
    assert learned / uniform == pytest.approx(3.1, rel=0.02)


def test_the_published_count_is_the_exact_one_without_borders():
    ones = Weights.of(np.ones((4, 2, 1, 1), np.float32))
    graph = Graph((
        Input((2, 6, 6), 2, "frames"), Neurons(0, 0.5, 0.5),
        Conv(1, ones, np.zeros(4, np.float32)), Flatten(2),
    ))  # fmt: skip
    x = (np.random.default_rng(0).random((1, 2, 2, 6, 6)) < 0.5).astype(np.float32)
    activity = Activity()
    Engine(graph)(x, activity)
    exact = operations(graph, activity.events, 1).layers[0].operations
    assert published(graph, activity.spikes) == {1: exact}
