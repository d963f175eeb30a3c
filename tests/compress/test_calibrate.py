from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from spikeproof.compress import Calibration, calibrate, estimate_norms
from spikeproof.compress._calibrate import order_of_firing, percentile
from spikeproof.errors import Refusal
from spikeproof.models import CNN, WRN, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    BPTT,
    IF,
    Direct,
    Encode,
    Frames,
    Sigmoid,
    Spiking,
    SpikingNetwork,
    over_time,
    recorded,
    smoothed,
)
from tests.oracles import pruning

RAW = Calibration(scale=1.0, steps=12)


def inputs(count=3, size=6, channels=2, batch=8):
    draw = generator(0, "inputs")
    return [torch.rand((batch, channels, size, size), generator=draw) for _ in range(count)]


def network(neuron=None, architecture=None, **knobs):
    neuron = neuron or IF(learn_theta=True)
    setting = Setting(channels=2, size=6, classes=3, T=4, neuron=neuron, **knobs)
    return build(architecture or CNN((6, 8), 10), setting, 3)


@given(st.integers(1, 60), st.integers(1, 7), st.floats(0, 100), st.integers(0, 100))
def test_the_percentile_is_the_value_of_its_rank_among_all_copies(n, copies, percent, seed):
    values = torch.randn(n, generator=generator(seed, "values"))
    repeated = np.repeat(values.numpy(), copies)
    assert percentile(values, copies, percent) == pruning.percentile(repeated, percent)


def test_of_a_known_tensor_it_is_the_997th_of_a_thousand():
    values = torch.arange(1000.0, 0, -1)
    rank = 1 + round(0.997 * 999)
    assert percentile(values, 1, 99.7) == rank == 997


def test_thresholds_are_percentiles_layer_by_layer_times_the_scale():
    """Against plain loops over time: each layer sees spikes under the unscaled thresholds."""
    with isolated(0):
        dense = [nn.Linear(n, m, dtype=torch.float64) for n, m in ((8, 6), (6, 5), (5, 3))]
    neurons = [Spiking(IF(learn_theta=True), 4, opens_time=i == 0) for i in range(2)]
    layers = nn.Sequential(
        nn.Flatten(), dense[0], neurons[0], dense[1], neurons[1], dense[2]
    ).double()
    net = SpikingNetwork(Encode(Direct(), 4), layers).double()
    batches = [x.double() for x in inputs(2, size=2)]
    knobs = Calibration(percentile=90, steps=9, scale=0.3)
    found = calibrate(net, batches, knobs)

    def currents(x, layer, theta):
        rows = x.flatten(1).numpy() @ dense[0].weight.detach().numpy().T
        rows = [rows + dense[0].bias.detach().numpy()] * knobs.steps
        if layer == 0:
            return np.array(rows)
        u, out = np.zeros_like(rows[0]), []
        for current in rows:
            u = u + current
            s = (u >= theta).astype(float)
            u = u * (1 - s)
            out.append(s @ dense[1].weight.detach().numpy().T + dense[1].bias.detach().numpy())
        return np.array(out)

    first = max(pruning.percentile(currents(x, 0, None), 90) for x in batches)
    first = float(max(first, 0.03))
    second = max(pruning.percentile(currents(x, 1, first), 90) for x in batches)
    wanted = [max(0.3 * first, 0.03), max(0.3 * second, 0.03)]
    assert list(found.values()) == pytest.approx(wanted)
    assert list(found) == ["layers.2", "layers.4"]
    assert [layer.theta.item() for layer in neurons] == pytest.approx(wanted)


def test_the_scale_multiplies_and_the_floor_holds():
    net = network()
    raw = calibrate(net, inputs(), RAW)
    scaled = calibrate(net, inputs(), replace(RAW, scale=0.3))
    assert scaled == pytest.approx({n: max(0.3 * v, 0.03) for n, v in raw.items()})
    tiny = calibrate(net, inputs(), replace(RAW, scale=1e-6))
    assert list(tiny.values()) == pytest.approx([0.03] * len(tiny))
    high = network(IF(theta=5.0, floor=5.0, learn_theta=True))
    assert set(calibrate(high, inputs(), RAW).values()) == {5.0}


def test_a_threshold_on_its_floor_still_learns():
    net = network()
    calibrate(net, inputs(), replace(RAW, scale=1e-6))
    net(inputs()[0]).square().sum().backward()
    assert any(m.learned["theta"].grad != 0 for m in net.modules() if isinstance(m, Spiking))


def test_there_is_one_less_than_layers_and_all_are_positive():
    net = network(architecture=WRN(10, 2, 0.2))
    found = calibrate(net, inputs(1), RAW)
    assert all(theta > 0 for theta in found.values())
    assert list(found) == [
        "layers.1.enter.1", "layers.1.branch.2", "layers.2.enter.1", "layers.2.branch.2",
        "layers.3.enter.1", "layers.3.branch.2", "layers.5",
    ]  # fmt: skip


def test_calibration_leaves_everything_but_thresholds_alone():
    net = network().train()
    before = copy.deepcopy(net.state_dict())
    calibrate(net, inputs(), RAW)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith("learned.theta") for name in changed)
    assert all(module.training for module in net.modules())
    assert not net.layers[2]._forward_pre_hooks
    assert {m.T for m in net.modules() if isinstance(m, Spiking)} == {4}


def test_norms_take_the_statistics_of_the_batch():
    net = network()
    wanted = calibrate(net, inputs(), RAW)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(7.0)
            module.running_var.fill_(50.0)
    assert calibrate(net, inputs(), RAW) == wanted


def test_more_batches_can_only_raise_the_first_threshold():
    net = network()
    batches = inputs(4)
    first = [next(iter(calibrate(net, batches[:n], RAW).values())) for n in (1, 2, 3, 4)]
    assert first == sorted(first)
    assert first[0] < first[-1]


def test_events_bring_their_own_steps():
    net = network(encoder=Frames())
    draw = generator(0, "events")
    frames = [torch.randint(3, (6, 4, 2, 6, 6), generator=draw).float()]
    before = copy.deepcopy(net.state_dict())
    found = calibrate(net.train(), frames, RAW)
    assert all(theta >= 0.03 for theta in found.values())
    assert torch.equal(net.state_dict()["layers.1.running_mean"], before["layers.1.running_mean"])
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(Refusal, match="learn_theta = true"):
        calibrate(network(IF()), inputs(), RAW)
    with pytest.raises(Refusal, match="0 batches"):
        calibrate(network(), [], RAW)
    net = network()
    with torch.no_grad():
        net.layers[0].weight.fill_(torch.inf)
    with pytest.raises(Refusal, match=r"current of layers\.2 is not finite"):
        calibrate(net, inputs(), RAW)
    with pytest.raises(Refusal, match="percentile is 101"):
        Calibration(percentile=101)


def test_layers_that_are_used_twice_are_refused_and_hooks_are_gone():
    neurons = Spiking(IF(learn_theta=True), 2)
    layers = nn.Sequential(nn.Identity(), neurons, neurons)
    with pytest.raises(Refusal, match="used 2 times"):
        order_of_firing(layers, torch.ones(4, 3))
    assert not neurons._forward_pre_hooks


def test_gradients_of_thresholds_are_those_of_the_smooth_model():
    """Float64 central differences of the network that fires the surrogate's primitive."""
    net = network(IF(rule=BPTT(Sigmoid()), learn_theta=True))
    calibrate(net, inputs(), replace(RAW, scale=0.5))
    net.eval().double()
    smooth = smoothed(net)
    x, y = inputs(1)[0].double(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    functional.cross_entropy(smooth(x), y).backward()
    thetas = [m.learned["theta"] for m in net.modules() if isinstance(m, Spiking)]
    assert len(thetas) == 3
    for theta in thetas:
        losses = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                theta.add_(change)
                losses.append(functional.cross_entropy(smooth(x), y).item())
                theta.sub_(change)
        slope = (losses[0] - losses[1]) / 2e-6
        assert abs(slope) > 1e-4
        assert theta.grad.item() == pytest.approx(slope, rel=1e-5)


def test_running_statistics_become_the_means_over_the_batches():
    net = network().train()
    batches = inputs(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(9.0)
    estimate_norms(net, batches)
    maps = [net.layers[0](net.encode(x)) for x in batches]
    norm = net.layers[1]
    torch.testing.assert_close(
        norm.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    )
    torch.testing.assert_close(
        norm.running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0)
    )
    assert norm.momentum == 0.1
    assert all(module.training for module in net.modules())


def test_thresholds_decide_how_much_is_fired():
    """Percentiles of the current, scaled to a third: most networks come alive."""
    net = network()
    calibrate(net, inputs(), Calibration(steps=12))
    estimate_norms(net, inputs())
    view = over_time(net.eval(), 8)
    with recorded(view) as layers, torch.no_grad():
        view(inputs()[0])
    assert all(0.02 < layer.rate.mean() < 0.9 for layer in layers.values())
