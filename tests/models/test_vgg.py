"""The numbers of seeds: paper B's VGG-16 and paper A's VGG-11 at 32x32."""

from __future__ import annotations

import pytest
import torch

from spikeproof.models import VGG11, VGG16, Setting, build, prunable_weights
from spikeproof.seeding import generator
from spikeproof.spiking import recorded


def neurons(net, size=32):
    with torch.no_grad(), recorded(net.eval()) as layers:
        net(torch.zeros(1, 3, size, size))
    return [layer.neurons for layer in layers.values()]


def test_vgg16_is_the_one_of_paper_b():
    net = build(VGG16(), Setting(T=1))
    assert prunable_weights(net) == 15_302_848
    counts = neurons(net)
    assert (len(counts), sum(counts)) == (15, 276_992)


def test_vgg11_is_the_one_of_paper_a():
    net = build(VGG11(), Setting(T=1))
    counts = neurons(net)
    assert (len(counts), sum(counts)) == (10, 286_720)
    convolutions = [(3, 64), (64, 128), (128, 256), (256, 512)] + [(512, 512)] * 4
    dense = [(8192, 4096), (4096, 4096), (4096, 10)]
    assert prunable_weights(net) == sum(9 * a * b for a, b in convolutions) + sum(
        a * b for a, b in dense
    )
    assert net.layers[0].bias is not None


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pooling_is_a_choice_that_moves_no_weight(pool):
    setting = Setting(T=2)
    net = build(VGG16(width=0.05, pool=pool), setting)
    other = build(VGG16(width=0.05), setting)
    assert net.state_dict().keys() == other.state_dict().keys()
    x = torch.rand(2, 3, 32, 32, generator=generator(0))
    assert net(x).shape == (2, 10)
