from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.ir import Add, Affine, pack, unpack
from spikeproof.models import CNN, MLP, VGG16, Setting, build
from spikeproof.runtime import Engine, trace
from spikeproof.seeding import isolated
from spikeproof.spiking import IF, LIF, Direct, Encode, Spiking, SpikingNetwork
from tests.runtime.networks import NETWORKS, SIDE, made


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "sew50"])
def test_in_float64_nothing_but_the_rounding_of_weights_is_left(name):
    net, x = made(name, 4)
    graph = lower(net, (3, SIDE, SIDE))
    assert not any(isinstance(node, Affine) for node in graph.nodes) or name == "wrn"
    with torch.no_grad():
        wanted = net.double()(x.double()).numpy()
    net.float()
    np.testing.assert_allclose(
        trace(graph, x.numpy(), np.float64).logits, wanted, rtol=0, atol=2e-6
    )


def test_what_is_pruned_is_not_stored_and_the_parameters_are_counted():
    net, _ = made("cnn", 4, share=0.1)
    graph = lower(net, (3, SIDE, SIDE), keep_dead=True)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [w.kept for w in graph.weights] == [int((m.weight != 0).sum()) for m in layers]
    assert graph.parameters == sum(p.numel() for p in net.parameters())


def test_learned_thresholds_and_leaks_are_those_in_force():
    neuron = LIF(learn_theta=True, learn_tau=True, floor=0.2)
    net = build(CNN((4,), 8), Setting(1, 8, T=3, neuron=neuron)).eval()
    first, second = (m for m in net.modules() if isinstance(m, Spiking))
    with torch.no_grad():
        first.learned["theta"].fill_(0.05)
        second.learned["tau"].fill_(1.5)
    found = [n for n in lower(net, (1, 8, 8), keep_dead=True).nodes if n.kind == "neurons"]
    assert [n.theta for n in found] == pytest.approx([0.2, 1.0])
    assert [n.tau for n in found] == pytest.approx([0.5, 1.0])


def test_parametrized_weights_are_read_as_they_act():
    net = build(MLP((6,)), Setting(1, 4, T=2)).eval()
    layer = next(m for m in net.modules() if isinstance(m, nn.Linear))
    mask = torch.zeros_like(layer.weight)
    mask[:, :3] = 1

    class Masked(nn.Module):
        def forward(self, weight):
            return weight * mask

    nn.utils.parametrize.register_parametrization(layer, "weight", Masked())
    assert lower(net, (1, 4, 4), keep_dead=True).weights[0].kept == 18


class Odd(nn.Module):
    """A block of somebody's own: the norm is read twice, and a merge has learned shares."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.fire = Spiking(IF(), 4, opens_time=True)
        self.more = nn.Conv2d(2, 2, 1)
        self.again = Spiking(IF(), 4)
        self.share = nn.Parameter(torch.tensor([0.25, 2.0]))
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        current = self.norm(self.conv(x))
        held = self.fire(current)
        merged = self.share[0] * held + 2 * (self.again(self.more(held)) * self.share[1])
        merged += held
        return self.out(merged.flatten(1))


def test_sums_and_products_are_found_wherever_they_stand():
    with isolated(0):
        net = SpikingNetwork(Encode(Direct(), 4), Odd()).eval()
        x = torch.rand(5, 2, 4, 4)
    net.layers.norm.running_mean.fill_(0.1)
    graph = lower(net, (2, 4, 4))
    scales = [node.scales for node in graph.nodes if isinstance(node, Add)]
    assert scales == [(0.25, 4.0), (1.0, 1.0)]
    with torch.no_grad():
        wanted = net(x).numpy()
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(Engine(graph)(x.numpy()), wanted, rtol=0, atol=1e-5)


def built(*layers):
    return SpikingNetwork(Encode(Direct(), 2), nn.Sequential(*layers)).eval()


FIRE = Spiking(IF(), 2, opens_time=True)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (nn.Linear(2, 2).eval(), "SpikingNetwork"),
        (built(nn.BatchNorm2d(2), FIRE, nn.Flatten()).train(), "eval"),
        (built(nn.Conv2d(2, 2, 1, groups=2), FIRE, nn.Flatten()), "groups"),
        (built(nn.Conv2d(2, 2, 3, dilation=2), FIRE, nn.Flatten()), "dilation"),
        (built(nn.Conv2d(2, 2, 3, padding="same"), FIRE, nn.Flatten()), "padding"),
        (built(nn.BatchNorm2d(2, track_running_stats=False), FIRE, nn.Flatten()), "statistics"),
        (built(nn.Conv2d(2, 2, 1), nn.GELU(), FIRE, nn.Flatten()), "gelu"),
        (built(nn.Conv2d(2, 2, 1), FIRE, nn.MaxPool2d(2, ceil_mode=True)), "rounds up"),
        (built(nn.Conv2d(2, 2, 1), FIRE, nn.AdaptiveAvgPool2d(2)), "one place"),
        (built(nn.Conv2d(2, 2, 1), FIRE), "row"),
    ],
)
def test_what_a_packed_network_cannot_hold_is_refused(model, word):
    with pytest.raises(Refusal, match=word):
        lower(model, (2, 6, 6))


def test_a_model_is_left_as_it_was():
    net, _ = made("sew", 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    lower(net, (3, SIDE, SIDE))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(not p.is_meta for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("sparsity", "smaller"), [(0.99, 60), (0.95, 15)])
def test_a_sparse_vgg16_is_as_small_as_was_promised(tmp_path, sparsity, smaller):
    net = build(VGG16(), Setting(T=8)).eval()
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                kept = torch.rand(layer.weight.shape, generator=drawn) >= sparsity
                layer.weight.mul_(kept)
    storage = pack(tmp_path / "a.spkp", lower(net, (3, 32, 32), keep_dead=True))
    size = (tmp_path / "a.spkp").stat().st_size
    assert storage.dense == 4 * 15_311_818
    assert storage.total == size <= storage.dense / smaller
    assert size <= 4 * 15_302_848 / smaller  # and against the weights alone
    assert unpack(tmp_path / "a.spkp").kept == sum(
        int((m.weight != 0).sum()) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    )
