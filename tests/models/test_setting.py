from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.models import (
    CNN,
    MLP,
    VGG11,
    VGG16,
    WRN,
    Setting,
    SEWResNet,
    SpikingResNet,
    analog_twin,
    build,
    prunable_weights,
)
from spikeproof.seeding import generator
from spikeproof.spiking import IF, Direct, Frames, Phase, Poisson, Spiking

SMALL = Setting(channels=1, size=8, T=3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (build(CNN((4,)), SMALL, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.dim() > 1:
            assert not torch.equal(a, c)


def test_convolutions_start_he_normal_and_biases_at_zero():
    net = build(CNN((128,)), Setting(channels=3, size=8), 0)  # fan-in 27, fan-out 1152
    (conv,) = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.04)
    assert all(not m.bias.any() for m in net.modules() if isinstance(m, nn.Linear))


def test_only_the_first_neurons_of_a_static_network_open_time():
    def opening(encoder):
        net = build(CNN((4, 4)), Setting(channels=1, size=8, encoder=encoder))
        return [m.opens_time for m in net.modules() if isinstance(m, Spiking)]

    assert opening(Direct()) == [True, False, False]
    assert opening(Poisson()) == opening(Phase()) == opening(Frames()) == [False] * 3


def test_normalisation_is_inside_and_spikes_are_not_normalised():
    plain = Setting(channels=1, size=8, mean=(0.3,), std=(0.2,))
    assert build(MLP(), plain).encode.mean.item() == pytest.approx(0.3)
    coded = Setting(channels=1, size=8, mean=(0.3,), std=(0.2,), encoder=Phase())
    assert build(MLP(), coded).encode.mean.item() == 0
    assert build(MLP(), analog_twin(coded)).encode.mean.item() == 0


def test_prunable_weights_leave_out_biases_and_norms():
    assert prunable_weights(build(MLP((5,)), SMALL)) == 64 * 5 + 5 * 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 0}, {"size": 0}, {"T": 0}, {"classes": 1}, {"mean": (0.0, 0.0), "channels": 3},
        {"channels": 10**9}, {"size": 10**9}, {"T": 10**9}, {"classes": 10**9},
        {"mean": (math.nan,)}, {"std": (0.0,)}, {"std": (math.inf,)}, {"std": (-1.0,)},
        {"std": (1.0, 1.0, 1.0)}, {"mean": (0.0,) * 3}, {"std": (1e-300,)},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(Refusal):
        Setting(**wrong)


def test_an_input_too_small_for_the_pooling_is_refused():
    with pytest.raises(Refusal, match="16 or more"):
        build(CNN((2, 2, 2, 2)), Setting(size=8))


def test_the_twin_of_an_event_network_sees_the_mean_frame():
    setting = Setting(channels=2, size=8, T=5, encoder=Frames(), neuron=IF())
    x = torch.rand(3, 5, 2, 8, 8, generator=generator(0))
    twin = build(MLP(), analog_twin(setting)).eval()
    assert torch.allclose(twin(x), twin(x.mean(1, keepdim=True).expand_as(x)), atol=1e-6)


WIDE = (VGG11, VGG16, WRN, SEWResNet, SpikingResNet)


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf, 1e300, 65.0])
@pytest.mark.parametrize("made", WIDE)
def test_impossible_widths_are_refused(made, width):
    with pytest.raises(Refusal, match=r"^width is .*; it must be above 0 and at most 64"):
        made(width=width)


@pytest.mark.parametrize("count", [0, -5, 65_537, 10**30])
@pytest.mark.parametrize(
    "made", [lambda n: MLP((4, n)), lambda n: CNN((4, n)), lambda n: CNN((4,), n)]
)
def test_impossible_channels_are_refused(made, count):
    with pytest.raises(Refusal, match=f"is {count}; it must be a number from 1 to 65536"):
        made(count)


def test_a_width_that_leaves_no_channel_is_refused_and_its_remedy_works():
    with pytest.raises(Refusal, match=r"64 channels times it are none; take at least 0\.016"):
        build(VGG11(0.004), Setting())
    build(VGG11(0.016), Setting())


def test_monstrous_networks_are_refused_before_they_are_made():
    for monster in (MLP((65_536, 65_536)), VGG16(64.0), WRN(1000, 64)):
        with pytest.raises(Refusal, match="weights; networks of up to 1,000,000,000"):
            build(monster, Setting())
    with pytest.raises(Refusal, match="give at most 100"):
        MLP((1,) * 101)
