from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.ir import Flatten, Graph, Input, Linear, Neurons, Weights
from spikeproof.models import CNN, Setting, build
from spikeproof.runtime import Agreement, Engine, agreement, margins
from spikeproof.spiking import IF


def on_the_edge(gap):
    """One neuron of threshold 1 with the weight 1, read by two classes; inputs decide the rest."""
    return Graph((
        Input((1, 1, 1), 2, "direct"),
        Flatten(0),
        Linear(1, Weights.of(np.ones((1, 1), np.float32)), np.array([gap], np.float32)),
        Neurons(2, 1.0, 1.0, hard=False),
        Linear(3, Weights.of(np.array([[1.0], [-1.0]], np.float32)), np.zeros(2, np.float32)),
    ))  # fmt: skip


def inputs(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def test_the_margin_is_that_of_the_nearest_membrane():
    x = inputs(0.25, 0.5, 0.9, 1.0, 0.0)
    # Membranes of two steps: u1 = x, u2 = 2x, or x after a spike that took 1 away.
    assert margins(on_the_edge(0.0), x) == pytest.approx([0.5, 0.0, 0.1, 0.0, 1.0])
    assert margins(on_the_edge(0.0), x[:0]).shape == (0,)
    assert np.isinf(margins(Graph(on_the_edge(0.0).nodes[:3]), x)).all()


def test_the_margin_of_a_leaky_neuron_with_a_hard_reset():
    graph = on_the_edge(0.0)
    leaky = Graph((*graph.nodes[:3], Neurons(2, 0.5, 0.5, hard=True), *graph.nodes[4:]))
    # u1 = x = 0.6 fires and is emptied, u2 = 0.6 again; 0.3 leaks to 0.45 and stays below 0.5.
    assert margins(leaky, inputs(0.6, 0.3)) == pytest.approx([0.2, 0.1])


def test_a_flipped_spike_is_a_tie_only_on_the_threshold():
    graph, x = on_the_edge(0.0), inputs(1.0, 0.9, 0.2)
    logits = Engine(graph)(x)
    assert agreement(graph, x, logits, logits.copy()) == Agreement(3)
    flipped = logits.copy()
    flipped[0] = flipped[0, ::-1]  # on the threshold: another order might not have fired
    found = agreement(graph, x, logits, flipped)
    assert (found.ties, found.unexplained, found.predictions, found.whole) == (1, 0, 1, True)
    assert found.farthest == 0
    flipped[1, 0] += 0.25  # a tenth below the threshold: nothing excuses that
    found = agreement(graph, x, logits, flipped)
    assert (found.ties, found.unexplained, found.whole) == (1, 1, False)
    assert found.farthest == 0.25
    flipped[1, 0] = np.nan
    assert agreement(graph, x, logits, flipped).unexplained == 1


def test_the_sum_of_batches_is_the_whole():
    parts = Agreement(3, 1, 0, 1, 0.5), Agreement(2, 0, 1, 0, 2.0)
    assert sum(parts, Agreement()) == Agreement(5, 1, 1, 1, 2.0)


def test_sums_in_another_order_differ_in_ties_alone():
    net = build(CNN((4,), 8), Setting(1, 8, T=2, neuron=IF()), seed=3).eval()
    graph = lower(net, (1, 8, 8))
    x = torch.rand((64, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net(x).numpy()
    found = agreement(graph, x.numpy(), Engine(graph)(x.numpy()), wanted)
    assert (found.samples, found.whole) == (64, True)
    assert found.farthest < 1e-4


def test_answers_of_another_form_are_refused():
    graph, x = on_the_edge(0.0), inputs(1.0, 0.9)
    logits = Engine(graph)(x)
    for wanted in (logits[:1], np.zeros((2, 3), np.float32)):
        with pytest.raises(Refusal, match="same form"):
            agreement(graph, x, logits, wanted)
