from __future__ import annotations

import pytest
import torch

from spikeproof.compress import lower
from spikeproof.energy import live_operations, operations
from spikeproof.errors import Refusal
from spikeproof.runtime import Activity, Engine
from tests.runtime.networks import SIDE, made


@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn-frames", "cnn-poisson", "wrn", "sew"])
def test_a_live_net_and_its_graph_count_the_same(name):
    net, x = made(name, 4)
    live = live_operations(net, x)
    graph, activity = lower(net, (3, SIDE, SIDE), keep_dead=True), Activity()
    Engine(graph)(x.numpy(), activity)
    packed = operations(graph, activity.events, activity.samples)
    assert (live.updates, live.leaky) == (packed.updates, packed.leaky)

    def rows(counted):  # without names; a residual block may hold its layers in another order
        return sorted(
            (r.kept, r.weights, r.reads, *(round(3 * n) for n in (r.events, r.operations, r.dense)))
            for r in counted.layers
        )

    assert rows(live) == rows(packed)
    for field in ("synaptic", "analog", "multiplied"):
        assert getattr(live, field) == pytest.approx(getattr(packed, field))
    assert live.behind_neurons > 0


def test_nothing_is_left_behind_and_no_batch_no_mean():
    net, x = made("cnn", 4)
    before = net(x)
    live_operations(net, x)
    assert torch.equal(net(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with pytest.raises(Refusal, match="empty"):
        live_operations(net, x[:0])
