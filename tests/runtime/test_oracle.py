from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.compress import lower
from spikeproof.ir import Neurons
from spikeproof.runtime import trace
from spikeproof.runtime._oracle import fire
from spikeproof.spiking import Spiking
from tests.oracles.lif import layer
from tests.runtime.networks import NETWORKS, SIDE, made


def spikes_of(net, x):
    """What every layer of neurons gave, in the order of the forward pass."""
    seen = []

    def note(layer, _, out):
        seen.append(out.unflatten(0, (layer.T, -1)).numpy())

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, Spiking)]
    with torch.no_grad():
        logits = net(x).numpy()
    for hook in hooks:
        hook.remove()
    return logits, seen


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_are_those_of_torch_step_by_step(name):
    net, x = made(name, 5, reset="soft" if name in ("mlp", "sew") else "hard")
    logits, wanted = spikes_of(net, x)
    graph = lower(net, (3, SIDE, SIDE), keep_dead=True)
    found = trace(graph, x.numpy())
    layers = [m for m, node in zip(found.maps, graph.nodes, strict=True) if node.kind == "neurons"]
    assert sum(s.sum() for s in wanted) > 150
    # Residual branches run in the order of their modules; the traced order is the same.
    assert len(layers) == len(wanted)
    for ours, theirs in zip(layers, wanted, strict=True):
        assert np.array_equal(ours, theirs.reshape(ours.shape))
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("hard", [True, False])
def test_neurons_follow_the_recursion(hard):
    currents = np.random.default_rng(0).normal(0.4, 0.5, (7, 3, 4)).astype(np.float32)
    node = Neurons(0, 0.75, 0.5, hard=hard)
    found = fire(node, currents)
    wanted, _, _ = layer(currents, 0.75, 0.5, hard=hard)
    assert 0 < wanted.mean() < 1
    assert np.array_equal(found, wanted)
