from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from spikeproof.compress import (
    Calibration,
    Magnitude,
    calibrate,
    convert,
    estimate_norms,
    masks_of,
    spiking_twin,
)
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
)
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import BPTR, IF, Spiking, over_time, recorded, seen_through

NEURON = IF(learn_theta=True)
ARCHITECTURES = [
    CNN((6, 8), 10),
    MLP((9,)),
    VGG11(0.02),
    VGG16(0.05),
    WRN(10, 2, 0.2),
    SEWResNet(18, width=0.05),
    SpikingResNet(18, width=0.05),
]


def images(size, batch=6, count=1):
    draw = generator(0, "images")
    return [torch.rand((batch, 2, size, size), generator=draw) for _ in range(count)]


def setting(size):
    return Setting(channels=2, size=size, classes=3, T=4, neuron=NEURON)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.kind)
def test_every_twin_becomes_a_network_that_fires(architecture):
    size = 32 if architecture.kind == "vgg11" else 16
    analog = build(architecture, analog_twin(setting(size)), 1)
    network = build(architecture, setting(size), 2)
    with torch.no_grad():
        for p in analog.parameters():
            if p.dim() == 1:
                p.add_(0.1)  # norms, biases and merges of their own
    masks = Magnitude(0.5).begin(analog)
    analog.train()(images(size)[0])
    convert(analog, network)
    for name, p in analog.named_parameters():
        assert torch.equal(p, network.get_parameter(name))
        assert p is not network.get_parameter(name)
    assert masks_of(network).digest() == masks.digest()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.num_batches_tracked == 0
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()
    calibrate(network, images(size), Calibration(steps=8))
    estimate_norms(network, images(size, count=2))
    with recorded(network.eval()) as layers:
        assert torch.isfinite(network(images(size)[0])).all()
    assert all(layer.spikes.sum() > 0 for layer in layers.values())


def test_only_twins_are_converted():
    wide = build(CNN((6, 9), 10), analog_twin(setting(16)))
    with pytest.raises(Refusal, match="twins have equal shapes"):
        convert(wide, build(CNN((6, 8), 10), setting(16)))
    deep = build(CNN((6, 8, 8), 10), analog_twin(setting(16)))
    with pytest.raises(Refusal, match="is missing in the"):
        convert(deep, build(CNN((6, 8), 10), setting(16)))
    with pytest.raises(Refusal, match="is missing in the"):
        convert(nn.Sequential(nn.Linear(2, 2, device="meta")), build(CNN((6, 8), 10), setting(16)))


def own(*layers):
    with isolated(4):
        return nn.Sequential(*(make() for make in layers))


def plain():
    return own(
        lambda: nn.Conv2d(2, 4, 3),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.MaxPool2d(2),
        nn.Flatten,
        lambda: nn.Dropout(0.5),
        lambda: nn.Linear(36, 8),
        nn.ReLU,
        lambda: nn.Linear(8, 3),
    )


class Block(nn.Module):
    """As residual networks are usually written: one ReLU module used twice."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            norm = nn.BatchNorm2d(outputs)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm)

    @override
    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 6, 2))
        self.fc = nn.Linear(6, 3)

    @override
    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = self.blocks(x).mean((2, 3))
        return self.fc(torch.flatten(x, 1))


def resnet():
    with isolated(5):
        return ResNet()


@pytest.mark.parametrize("make", [plain, resnet])
def test_a_users_own_network_becomes_a_spiking_one(make):
    model = make()
    x = images(8)[0]
    with isolated(0, "dropout"):
        model.train()(x)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    network = spiking_twin(model, NEURON, 4, mean=(0.5,), std=(0.25,))
    given = dict(model.named_parameters())
    theirs = {n.removeprefix("layers."): p for n, p in network.named_parameters()}
    assert given.keys() == {name for name in theirs if "learned" not in name}
    assert all(torch.equal(p, theirs[name]) for name, p in given.items())
    assert all(theirs[name] is not p for name, p in given.items())
    thresholds = calibrate(network, [x], Calibration(steps=8))
    assert len(thresholds) == {plain: 2, resnet: 5}[make]
    estimate_norms(network, [x, x])
    network.eval()
    logits = network(x)
    assert logits.shape == (6, 3)
    assert network.steps(x).shape == (4, 6, 3)
    assert torch.equal(seen_through(network, BPTR())(x), logits), "views see it"
    assert over_time(network, 7).steps(x).shape == (7, 6, 3)
    with recorded(network) as layers:
        network(x)
    assert all(layer.spikes.sum() > 0 for layer in layers.values())
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items()), "untouched"
    assert not any(isinstance(m, Spiking) for m in model.modules())


def test_each_use_of_a_relu_gets_neurons_of_its_own():
    network = spiking_twin(resnet(), NEURON, 4)
    names = [name for name, m in network.layers.named_modules() if isinstance(m, Spiking)]
    assert sorted(names) == [
        "blocks.0.relu", "blocks.0.relu_2", "blocks.1.relu", "blocks.1.relu_2", "neurons",
    ]  # fmt: skip
    spiking = {name: network.layers.get_submodule(name) for name in names}
    assert [name for name, m in spiking.items() if m.opens_time] == ["neurons"]


def rates(network, x, steps):
    """The mean output of every layer of neurons over this many steps, (B, F)."""
    view, seen = over_time(network, steps), {}
    for name, layer in view.named_modules():
        if isinstance(layer, Spiking):
            layer.register_forward_hook(
                lambda _, __, s, name=name: seen.update(
                    {name: s.detach().unflatten(0, (steps, -1)).mean(0).flatten(1)}
                )
            )
    view(x)
    return list(seen.values())


def test_rates_approach_the_relus_of_the_analog_network():
    """Neurons with a soft reset fire ``floor(T relu(x) / theta)`` times: off by 1/T at most."""
    with isolated(6):
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32, 20),
            nn.ReLU(),
            nn.Linear(20, 10, bias=False),
            nn.ReLU(),
            nn.Linear(10, 3, bias=False),
        ).double()
    network = spiking_twin(model, IF(reset="soft", learn_theta=True), 4).double()
    x = images(4, batch=40)[0].double()
    found = calibrate(network, [x], Calibration(percentile=100, steps=50, scale=1.0))
    first, second = found.values()
    wanted = [model[:3](x) / first]
    wanted.append(functional.relu(model[3](wanted[0])) / second)
    errors = {}
    for steps in (10, 100, 1000):
        mean = rates(network, x, steps)
        assert ((mean[0] - wanted[0]).abs() <= 1 / steps + 1e-9).all()
        errors[steps] = (mean[1] - wanted[1].clamp_max(1)).abs().mean().item()
    assert errors[1000] < 0.3 * errors[100] < 0.3 * errors[10]
    logits, analog = over_time(network, 1000)(x), model(x) / (first * second)
    scale = analog.abs().max()
    assert (logits - analog).abs().max() < 0.02 * scale
    clear = analog.topk(2).values.diff().abs().flatten() > 0.04 * scale
    assert clear.sum() > 20
    assert torch.equal(logits.argmax(1)[clear], analog.argmax(1)[clear])


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    @override
    def forward(self, x):
        return self.relu(x) if x.sum() > 0 else x


class Early(nn.Module):
    """A sum of a path that has passed a ReLU and one that has not."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    @override
    def forward(self, x):
        return x + self.relu(x)


class Parallel(nn.Module):
    """Two first ReLUs beside each other."""

    @override
    def forward(self, x):
        return torch.relu(x), functional.relu(-x)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Branching, "cannot be traced"),
        (Early, "joins a path that has passed a ReLU and one that has not"),
        (Parallel, "joins a path"),
        (lambda: nn.Sequential(nn.Flatten()), "uses no ReLU"),
        (lambda: nn.Sequential(nn.ReLU(), nn.GELU()), "is no ReLU"),
        (lambda: nn.Sequential(nn.ReLU(), nn.LeakyReLU()), "is no ReLU"),
    ],
)
def test_what_cannot_become_a_spiking_network_is_refused(made, said):
    with pytest.raises(Refusal, match=said):
        spiking_twin(made(), NEURON, 4)
