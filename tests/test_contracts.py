"""Catalogue times contracts: whatever has a name has passed what its kind owes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from spikeproof.catalogue import KINDS
from spikeproof.data import Split, inventory, load
from spikeproof.models import MLP, Architecture, Setting, analog_twin, build
from spikeproof.seeding import generator
from spikeproof.spiking import CBA, LIF, Encoder, Frames, Rule, Surrogate
from spikeproof.training import (
    CrossEntropy,
    Objective,
    Optimizer,
    Plan,
    Schedule,
    Steps,
    fit,
    measure,
)
from tests.contracts.encoder import assert_encoder
from tests.contracts.model import assert_model
from tests.contracts.neuron import assert_neuron
from tests.contracts.rule import assert_rule
from tests.contracts.surrogate import assert_surrogate

TINY = {
    "cnn": {"channels": (3, 4), "hidden": 5},
    "mlp": {"hidden": (6,)},
    "vgg11": {"width": 0.01},
    "vgg16": {"width": 0.02},
    "wrn": {"depth": 10, "widen": 2, "width": 0.1},
    "sew_resnet": {"width": 0.05},
    "spiking_resnet": {"width": 0.05},
}


def of(kind):
    return pytest.mark.parametrize("member", KINDS[kind], ids=lambda m: m.__name__)


@of(Surrogate)
def test_surrogates(member):
    assert_surrogate(member())


@of(Rule)
def test_rules(member):
    rule = member()
    assert_rule(rule)
    if any(f.name == "detach_reset" for f in dataclasses.fields(member)):
        assert_rule(dataclasses.replace(rule, detach_reset=not rule.detach_reset))


@pytest.mark.parametrize("activation", ["relu", "clip_floor"])
def test_the_rule_with_its_own_forward(activation):
    assert_rule(CBA(activation))


@of(LIF)
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("learned", [False, True])
def test_neurons(member, reset, learned):
    assert_neuron(member(reset=reset, learn_theta=learned, learn_tau=learned))


@of(Encoder)
def test_encoders(member):
    assert_encoder(member())


@of(Architecture)
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_models(member, events):
    architecture = member(**TINY[member.kind])
    side = 32 if member.kind == "vgg11" else 16
    setting = Setting(channels=2, size=side, classes=3, T=3)
    shape = (2, 2, side, side)
    if events:
        setting = dataclasses.replace(setting, encoder=Frames())
        shape = (2, 3, 2, side, side)
    network = build(architecture, setting, 1)
    x = torch.rand(shape, generator=generator(0, "model"))
    network.train()(x.repeat(4, *[1] * (x.dim() - 1)))  # norms that would let nothing fire
    assert_model(network, x, 3)
    twin = build(architecture, analog_twin(setting), 1)
    names = dict(network.named_parameters())
    assert names.keys() == dict(twin.named_parameters()).keys()
    assert twin.eval()(x).shape == (2, 3)


@of(Objective)
def test_objectives(member):
    """Finite, scalar, and its gradient is that of finite differences."""
    setting = Setting(channels=1, size=2, classes=3, T=2, neuron=None)
    network = build(MLP((4,)), setting, 0).double().eval()
    x = torch.rand((5, 1, 2, 2), generator=generator(0, "objective"), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1])
    objective = member()
    loss = objective(network, x, y)
    assert loss.dim() == 0
    assert torch.isfinite(loss)
    weight = next(p for p in network.parameters() if p.dim() == 2)
    loss.backward()
    with torch.no_grad():
        for place in ((0, 0), (2, 3)):
            values = []
            for change in (1e-6, -1e-6):
                weight[place] += change
                values.append(objective(network, x, y).item())
                weight[place] -= change
            slope = (values[0] - values[1]) / 2e-6
            assert weight.grad[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("schedule", KINDS[Schedule], ids=lambda m: m.__name__)
@pytest.mark.parametrize("optimizer", KINDS[Optimizer], ids=lambda m: m.__name__)
def test_every_optimizer_learns_under_every_schedule(optimizer, schedule, tmp_path):
    x = torch.rand((64, 1, 2, 2), generator=generator(0, "train"))
    split = Split(x, (x.mean((1, 2, 3)) > 0.5).long(), 1.0)
    knobs = {"milestones": (2.0,)} if schedule is Steps else {}
    plan = Plan(epochs=4, batch=8, optimizer=optimizer(lr=0.05), schedule=schedule(**knobs))
    network = build(MLP((8,)), Setting(channels=1, size=2, classes=2, T=2))
    before = measure(network, split)["loss"]
    fit(network, split, CrossEntropy(), plan, tmp_path, validate=lambda net: measure(net, split))
    assert measure(network, split)["loss"] < 0.9 * before


@pytest.mark.parametrize("name", [row.name for row in inventory(Path())])
def test_readers_of_named_sets(name, tmp_path, request):
    root = tmp_path
    if name not in ("digits", "event-digits"):
        root = request.getfixturevalue("real_data")
        if not {row.name: row for row in inventory(root)}[name].present:
            pytest.skip(f"{root} has no {name}")
    dataset = load(name, root, steps=4)
    again = load(name, root, steps=4)
    assert torch.equal(dataset.train.y, again.train.y)
    for split in (dataset.train, dataset.validation, dataset.test):
        x, _ = split.batch(torch.arange(3))
        assert x.dtype == torch.float32
        assert x.shape == (3, *dataset.shape)
        assert x.min() >= 0
        assert dataset.events or x.max() <= 1
        assert set(split.y.tolist()) <= set(range(len(dataset.classes)))
    together = len(dataset.train) + len(dataset.validation)
    assert len(dataset.validation) == pytest.approx(0.1 * together, rel=0.3)
