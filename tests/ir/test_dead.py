from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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
    without_dead,
)
from spikeproof.ir._dead import silent
from spikeproof.runtime import trace


def sparse(rng, *shape, share=0.25):
    return Weights.of(rng.normal(0, 1, shape).astype(np.float32) * (rng.random(shape) < share))


def drawn(seed, *, residual=False, share=0.25):
    """A small random network, with biases that silence some channels."""
    rng = np.random.default_rng(seed)

    def bias(n):
        return rng.choice([-9, 0, 0.3], n).astype(np.float32)

    nodes = [
        Input((2, 6, 6), 4, mean=(0.4, 0.5), std=(0.2, 0.3)),
        Conv(0, sparse(rng, 8, 2, 3, 3, share=share), bias(8), padding=(1, 1)),
        Neurons(1, 0.6, 1.0 if seed % 2 else 0.5),
        Conv(2, sparse(rng, 8, 8, 3, 3, share=share), bias(8), padding=(1, 1)),
        Neurons(3, 0.6, 0.8, hard=bool(seed % 3)),
    ]
    if residual:
        nodes += [
            Add(2, 4, (0.5, 0.5)),
            Affine(5, bias(8), bias(8)),
            Neurons(6, 0.5, 0.9),
        ]
    nodes += [
        Pool(len(nodes) - 1, "avg", (2, 2), (2, 2)),
        Flatten(len(nodes)),
        Linear(len(nodes) + 1, sparse(rng, 10, 72, share=share), bias(10)),
        Neurons(len(nodes) + 2, 0.3, 0.9),
        Linear(len(nodes) + 3, sparse(rng, 5, 10, share=share), bias(5)),
    ]
    return Graph(tuple(nodes))


@pytest.mark.parametrize("residual", [False, True])
def test_no_answer_changes_and_something_is_left_out(residual):
    fewer, narrower = 0, 0
    for seed in range(20):
        graph = drawn(seed, residual=residual, share=0.1 + 0.02 * seed)
        thin = without_dead(graph)
        x = np.random.default_rng(seed + 99).random((6, 2, 6, 6)).astype(np.float32)
        x[:2] = x[:2].round()
        # What is left is the same sum without zeros; float64 takes the order out of it.
        ours, theirs = (trace(g, x, np.float64).logits for g in (thin, graph))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
        fewer += thin.kept < graph.kept
        narrower += thin.size < graph.size
    assert fewer >= 18
    assert narrower >= 15


def test_what_fires_for_some_image_is_never_called_silent():
    for seed in range(20):
        graph = drawn(seed, residual=bool(seed % 2))
        x = np.random.default_rng(seed).random((32, 2, 6, 6)).astype(np.float32)
        x[:16] = x[:16].round()
        maps = trace(graph, x).maps
        for place, never in silent(graph).items():
            fired = np.moveaxis(maps[place], 2, 0).reshape(len(never), -1).any(1)
            assert not (fired & never).any()


def test_the_bound_is_reached_by_the_worst_image():
    """One neuron, current w0 - w1 at most w0: silent just above the sum over time, not below."""
    weights = Weights.of(np.array([[0.5, -0.25]], np.float32))
    for tau, limit in ((0.5, 1.0), (0.0, 0.5), (0.75, 2.0)):
        for theta, expected in ((limit * 1.01, True), (limit * 0.98, False)):
            net = Graph((
                Input((2, 1, 1), 64), Flatten(0), Linear(1, weights, np.zeros(1, np.float32)),
                Neurons(2, theta, tau),
            ))  # fmt: skip
            best = np.array([[[[1.0]], [[0.0]]]], np.float32)
            assert silent(net)[3].tolist() == [expected]
            assert trace(net, best).maps[3].any() == (not expected)


def test_without_a_leak_only_what_never_rises_is_silent():
    for bias, expected in ((-0.01, True), (0.0, True), (1e-4, False)):
        net = Graph((
            Input((1, 1, 1), 4), Flatten(0),
            Linear(1, Weights.of(np.zeros((1, 1), np.float32)), np.full(1, bias, np.float32)),
            Neurons(2, 1.0, 1.0),
        ))  # fmt: skip
        assert silent(net)[3].tolist() == [expected]


def test_event_frames_have_no_upper_bound():
    weights = Weights.of(np.full((1, 1), 1e-6, np.float32))
    net = Graph((
        Input((1, 1, 1), 4, "frames"), Flatten(0),
        Linear(1, weights, np.zeros(1, np.float32)), Neurons(2, 1.0, 0.5),
    ))  # fmt: skip
    assert silent(net)[3].tolist() == [False]


def test_a_network_that_can_do_nothing_keeps_its_logits():
    graph = drawn(3)
    last = graph.nodes[-1]
    empty = replace(last, weights=Weights.of(np.zeros((5, 10), np.float32)))
    thin = without_dead(replace(graph, nodes=(*graph.nodes[:-1], empty)))
    x = np.zeros((1, 2, 6, 6), np.float32)
    assert thin.kept == 0
    assert trace(thin, x).logits.tolist() == [last.bias.tolist()]


def test_doing_it_twice_changes_nothing():
    thin = without_dead(drawn(5))
    again = without_dead(thin)
    assert (again.kept, again.size) == (thin.kept, thin.size)
