"""Catalogue times contracts: whatever has a name has passed what its kind owes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from spikeproof.attacks import (
    APGD,
    CE,
    FAB,
    FGSM,
    L0,
    L1,
    L2,
    MIFGSM,
    PGD,
    RFGSM,
    SAPGD,
    SDA,
    SEA,
    Ball,
    Coordinate,
    CornerEvents,
    DashEvents,
    Flips,
    FrameEvents,
    Gumbel,
    HopSkipJump,
    Linf,
    Loss,
    Margin,
    RandomSearch,
    RelaxedLinf,
    Retiming,
    RetimingSearch,
    Search,
    SparseSearch,
    SpikeFool,
    Square,
    TargetedDLR,
    Threat,
    TopK,
)
from spikeproof.catalogue import KINDS
from spikeproof.compress import Pattern, Pruning
from spikeproof.data import Split, inventory, load
from spikeproof.models import MLP, Architecture, Setting, analog_twin, build
from spikeproof.seeding import generator
from spikeproof.spiking import CBA, LIF, Encoder, Frames, Rule, Surrogate
from spikeproof.training import (
    CrossEntropy,
    Objective,
    Optimizer,
    Penalty,
    Plan,
    Schedule,
    Steps,
    fit,
    measure,
)
from tests.contracts.attack import assert_search
from tests.contracts.encoder import assert_encoder
from tests.contracts.event_attack import assert_event_search, assert_fewest
from tests.contracts.loss import assert_loss, assert_loss_climbs
from tests.contracts.model import assert_model
from tests.contracts.neuron import assert_neuron
from tests.contracts.objective import assert_objective, assert_penalty
from tests.contracts.pruning import assert_pattern, assert_pruning
from tests.contracts.rule import assert_rule
from tests.contracts.surrogate import assert_surrogate
from tests.contracts.threat import assert_threat

TINY = {
    "cnn": {"channels": (3, 4), "hidden": 5},
    "mlp": {"hidden": (6,)},
    "vgg11": {"width": 0.01},
    "vgg16": {"width": 0.02},
    "wrn": {"depth": 10, "widen": 2, "width": 0.1},
    "sew_resnet": {"width": 0.05},
    "spiking_resnet": {"width": 0.05},
}


def boosted(model, x, y):
    """The boosted cross entropy of MART."""
    p = model(x).softmax(1)
    rival = torch.stack([row[row != row[label]].max() for row, label in zip(p, y, strict=True)])
    return -(p[torch.arange(len(y)), y].log() + (1 - rival).log()).mean()


def at_every_step(model, x, y):
    """The mean cross entropy over time of TET."""
    return torch.stack([cross_entropy(step, y) for step in model.steps(x)]).mean()


@dataclass(frozen=True)
class Case:
    """How a search in norm balls is asked, and what it owes where that is not within a tenth."""

    search: Search
    loss: Loss = field(default_factory=CE)
    patient: Search | None = None
    owed: dict[type[Ball], float | None] = field(default_factory=dict)


IN_BALLS = {
    "apgd": [Case(APGD(30)), Case(APGD(20, targets=2), TargetedDLR())],
    "fab": [Case(FAB(30), Margin()), Case(FAB(6, targets=2), TargetedDLR(), FAB(20, targets=2))],
    "fgsm": [Case(FGSM())],
    "hop_skip_jump": [
        Case(
            HopSkipJump(100, starts=10, probes=20),
            patient=HopSkipJump(4000, starts=200, probes=60),
        )
    ],
    "mifgsm": [Case(MIFGSM())],
    "pgd": [Case(PGD())],
    "random": [Case(RandomSearch(10), owed=dict.fromkeys((Linf, L2, L1, L0)))],
    # Half of its budget is spent at random: three times the least budget is what it owes.
    "rfgsm": [Case(RFGSM(), owed={Linf: 3.0, L2: 3.0})],
    "sapgd": [Case(SAPGD(30))],
    "sparse": [Case(SparseSearch(20)), Case(SparseSearch(20, random_start=True))],
    # Squares of 3 x 3 at the least cannot follow a plane of white noise: 1.5 is what they owe.
    "square": [Case(Square(40), Margin(), Square(500), {L2: 1.5})],
}
ON_EVENTS = {
    "coordinate": (Coordinate(30, 2), 5),
    "corner_events": (CornerEvents(), 128),
    "dash_events": (DashEvents(), 128),
    "frame_events": (FrameEvents(1), 128),
    "gumbel": (Gumbel(10), 8),
    "random": (RandomSearch(10), 8),
    "retiming": (RetimingSearch(8), 0),
    "sda": (SDA(5), 5),
    "sea": (SEA(), 8),
    "spikefool": (SpikeFool(), 8),
    "topk": (TopK(10), 5),
}
# The fewest events that fool a plane; noise and the patterns of a broken sensor promise none.
FEWEST = {
    "coordinate": (Coordinate(1000, 1), 1.25),
    "gumbel": (Gumbel(), 1.1),
    "sda": (SDA(20), 1.1),
    "sea": (SEA(), 1.1),
    "spikefool": (SpikeFool(distance=1.0), 1.1),
    "topk": (TopK(20), 1.1),
}
NO_OPTIMUM = {"corner_events", "dash_events", "frame_events", "random"}
THREATS = {
    "flips": [Flips(5, binary=True), Flips(5, binary=False)],
    "l0": [L0(3.0), L0(3.0, low=-1.0, high=2.0)],
    "l1": [L1(1.5), L1(1.5, low=-1.0, high=2.0)],
    "l2": [L2(0.8), L2(0.8, low=-1.0, high=2.0)],
    "linf": [Linf(0.3), Linf(0.3, low=-1.0, high=2.0)],
    "relaxed_linf": [RelaxedLinf(1.0, high=4.0)],
    "retiming": [Retiming(1), Retiming(4, "b1"), Retiming(4, "b0")],
}
# What an objective comes to where an attack may change nothing.
CLEAN = {
    "adversarial": CrossEntropy(),
    "cross_entropy": CrossEntropy(),
    "mart": boosted,
    "rat": CrossEntropy(),
    "sibp": CrossEntropy(),
    "tet": at_every_step,
    "trades": CrossEntropy(),
}
SLOW = {"hop_skip_jump", "square"}  # they pay for their optimum with thousands of queries
# The relaxed ball is Linf by another name, as its own test shows.
PAIRS = [
    pytest.param(
        member,
        threat,
        id=f"{member.kind}-{threat.kind}",
        marks=[pytest.mark.slow] if member.kind in SLOW else [],
    )
    for member in KINDS[Search]
    for threat in KINDS[Threat]
    if issubclass(threat, member.fits) and threat is not RelaxedLinf
]


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


@of(Threat)
def test_threats(member):
    for threat in THREATS[member.kind]:
        assert isinstance(threat, member)
        assert_threat(threat)


@of(Loss)
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_losses(member, classes):
    assert_loss(member(), classes)


@of(Loss)
def test_losses_are_climbed(member):
    assert_loss_climbs(member())


@pytest.mark.parametrize(("member", "threat"), PAIRS)
def test_searches(member, threat):
    """Every search in every set that it says it fits; one without arguments is a KeyError."""
    if issubclass(threat, Ball):
        for case in IN_BALLS[member.kind]:
            assert isinstance(case.search, member)
            owed, first = case.owed.get(threat, 1.10), member.fits[0] in (threat, Ball, Threat)
            knobs = {"loss": case.loss, "patient": case.patient, "owed": owed}
            assert_search(case.search, (threat,), fair=first, **knobs)
        return
    search, k = ON_EVENTS[member.kind]
    assert isinstance(search, member)
    threats = THREATS[threat.kind]
    if threat is Flips:
        threats = [replace(flips, k=k) for flips in threats]
    assert_event_search(search, tuple(threats))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "counts"])
@pytest.mark.parametrize("kind", FEWEST)
def test_searches_for_events_reach_the_fewest(kind, binary):
    search, owed = FEWEST[kind]
    assert_fewest(search, binary=binary, owed=1.1 if binary else owed)


def test_no_search_is_left_out():
    """Not even one that fits nothing of the catalogue, and would be asked nothing."""
    assert {pair.values[0] for pair in PAIRS} == set(KINDS[Search])
    assert {member.kind for member in KINDS[Search]} == {*IN_BALLS, *ON_EVENTS}
    assert {member.kind for member in KINDS[Threat]} == THREATS.keys()
    flip = {member.kind for member in KINDS[Search] if issubclass(Flips, member.fits)}
    assert flip == FEWEST.keys() | NO_OPTIMUM


@of(Pruning)
@pytest.mark.parametrize("dense", [(), ("first", "head")], ids=["all", "ends dense"])
def test_prunings(member, dense):
    often = {"every": 3} if member.kind in ("gradual", "rigl") else {}
    noisy = {"noise": 1.0} if member.kind == "sign_sampler" else {}
    assert_pruning(member(sparsity=0.8, dense=dense, **often, **noisy))


@of(Pattern)
def test_patterns(member):
    assert_pattern(member())


@of(Objective)
def test_objectives(member):
    """One that has no clean loss here is a KeyError."""
    assert_objective(member(), CLEAN[member.kind])


@of(Penalty)
def test_penalties(member):
    assert_penalty(member())


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
