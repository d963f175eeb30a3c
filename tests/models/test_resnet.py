"""Counts of the residual networks: those of the ImageNet networks with ten classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.models import Setting, SEWResNet, SpikingResNet, build
from spikeproof.seeding import generator
from spikeproof.spiking import Spiking, recorded

# 11,689,512 / 21,797,672 / 25,557,032 parameters with 1000 classes, less 990 rows of the last layer
PARAMETERS = {18: 11_181_642, 34: 21_289_802, 50: 23_528_522}


@pytest.mark.parametrize("depth", [18, 34, 50])
@pytest.mark.parametrize("family", [SEWResNet, SpikingResNet])
def test_parameters_are_those_of_the_imagenet_networks(family, depth):
    net = build(family(depth), Setting(T=1))
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[depth]


@pytest.mark.parametrize(("depth", "layers"), [(18, 20), (34, 36), (50, 53)])
def test_a_sew_network_has_neurons_after_every_norm(depth, layers):
    net = build(SEWResNet(depth, width=0.1), Setting(T=1))
    assert sum(isinstance(m, Spiking) for m in net.modules()) == layers
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == layers


def test_maps_shrink_as_paper_c_says():
    net = build(SEWResNet(18), Setting(T=1)).eval()
    sides = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, o: sides.append(o.shape[-1]))
        for m in net.modules()
        if isinstance(m, nn.MaxPool2d | nn.Conv2d | nn.AdaptiveAvgPool2d)
    ]
    with torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    seen = list(dict.fromkeys(sides))
    assert seen == [16, 8, 4, 2, 1]


def test_sew_adds_spikes_and_spiking_resnet_adds_currents():
    x = torch.rand(2, 3, 32, 32, generator=generator(0))
    added = {}
    for family in (SEWResNet, SpikingResNet):
        net = build(family(18, width=0.25), Setting(T=2))
        first = net.layers[4]
        values = []
        hook = first.register_forward_hook(lambda _m, _i, o, values=values: values.append(o))
        net(x)
        hook.remove()
        added[family] = values[0]
    assert set(added[SpikingResNet].unique().tolist()) <= {0.0, 1.0}
    assert set(added[SEWResNet].unique().tolist()) <= {0.0, 1.0, 2.0}
    assert added[SEWResNet].max() == 2


def test_max_and_average_pooling_differ_in_the_stem_alone():
    setting = Setting(T=1)
    by_max, by_mean = (build(SEWResNet(18, pool, 0.1), setting) for pool in ("max", "avg"))
    assert by_max.state_dict().keys() == by_mean.state_dict().keys()
    kinds = [(type(a), type(b)) for a, b in zip(by_max.modules(), by_mean.modules(), strict=True)]
    assert [pair for pair in kinds if pair[0] is not pair[1]] == [(nn.MaxPool2d, nn.AvgPool2d)]


def test_the_stems_pool_passes_one_gradient_in_nine_or_all():
    """Paper C's effect: about 0.8 exact zeros at the pool's input under max, none under average."""
    x = torch.rand(4, 3, 32, 32, generator=generator(0))
    shares = {}
    for pool in ("max", "avg"):
        net = build(SEWResNet(18, pool), Setting(T=4))
        zeros = []
        hook = net.layers[3].register_full_backward_hook(
            lambda _m, g, _o, zeros=zeros: zeros.append(g[0].eq(0).double().mean().item())
        )
        net(x).sum().backward()
        hook.remove()
        (shares[pool],) = zeros
    assert shares["max"] > 0.7
    assert shares["avg"] < 0.05


def test_other_depths_are_refused():
    with pytest.raises(Refusal, match="18, 34 and 50"):
        SEWResNet(19)


def test_neurons_are_recorded_by_name():
    net = build(SpikingResNet(18, 0.1), Setting(T=2))
    with torch.no_grad(), recorded(net) as layers:
        net(torch.zeros(1, 3, 32, 32))
    assert len(layers) == 17
