"""Attacks of other packages: the packages themselves where they are, and stand-ins everywhere."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from spikeproof.attacks import L2, PGD, Attack, Flips, Linf
from spikeproof.catalogue import read_suite
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions, Step, Suite, Theirs, evaluate, read_record

THREAT = Linf(0.15)


class Sign:
    """An attack as torchattacks has them: of a model and knobs, called with images and labels."""

    def __init__(self, model, eps=8 / 255, scale=1.0):
        self.model, self.eps, self.scale = model, eps, scale

    def __call__(self, x, y):
        noise = torch.rand_like(x) + np.random.rand()
        at = x.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(self.model(at), y)
        (d,) = torch.autograd.grad(loss, at)
        return (x + self.eps * self.scale * d.sign() + 0 * noise).clamp(0, 1)


class Deaf:
    """One without a budget, which proposes what it was given."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x, y):
        return x


class Box:
    """Foolbox's way: an attack is made of knobs, and called with model, images, goal, budget."""

    def __call__(self, model, x, goal, *, epsilons):
        assert model.bounds == (0.0, 1.0)
        return None, Sign(model.net, epsilons)(x, goal.labels), None


class Auto:
    """AutoAttack's way."""

    def __init__(self, model, norm, eps, seed, device, version):
        self.made = model, norm, eps, version
        self.attacks_to_run = []

    def run_standard_evaluation(self, x, y):
        model, norm, eps, version = self.made
        assert norm == "Linf"
        assert (version == "standard") == (self.attacks_to_run == [])
        return Sign(model, eps)(x, y)


@pytest.fixture
def packages(monkeypatch):
    theirs = ModuleType("torchattacks")
    theirs.Sign, theirs.Deaf, theirs.number = Sign, Deaf, 3
    box = ModuleType("foolbox")
    box.PyTorchModel = lambda net, bounds, device: SimpleNamespace(net=net, bounds=bounds)
    box.Misclassification = lambda labels: SimpleNamespace(labels=labels)
    box.attacks = SimpleNamespace(Box=Box)
    auto = ModuleType("autoattack")
    auto.AutoAttack = Auto
    for module in (theirs, box, auto):
        monkeypatch.setitem(sys.modules, module.__name__, module)


EACH = [
    Theirs("torchattacks", "Sign"),
    Theirs("foolbox", "Box"),
    Theirs("autoattack", "standard"),
    Theirs("autoattack", "apgd-ce"),
]


@pytest.mark.parametrize("step", EACH, ids=lambda step: f"{step.package}-{step.name}")
def test_what_they_propose_is_judged_like_any_claim(packages, linear, points, tmp_path, step):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    suite = Suite("s", (Step("theirs", step), Step("far", Theirs("torchattacks", "Sign", FAR))))
    record = evaluate(linear, points, THREAT, suite, out=tmp_path, checks=())
    theirs, far = read_record(tmp_path / "record.json").steps
    assert 0 < sum(theirs.success) <= sum(record.clean)
    assert not any(theirs.inadmissible)
    assert sum(far.inadmissible) > 0, "what is beyond the budget breaks nothing"
    assert not any(far.success)
    assert theirs.attack["package"] == step.package
    assert json.dumps(theirs.attack)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


FAR = {"scale": 50.0}


def test_a_suite_in_a_file_names_them(packages, linear, points, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[steps]]\nid = "theirs"\n'
        'theirs = {package = "torchattacks", name = "Sign", knobs = {scale = 0.5}}\n'
        '[[steps]]\nid = "ours"\nattack = {search = {kind = "pgd", steps = 3}}\n'
    )
    suite = read_suite(path)
    assert suite.steps[0].attack == Theirs("torchattacks", "Sign", {"scale": 0.5})
    assert isinstance(suite.steps[1].attack, Attack)
    record = evaluate(linear, points, THREAT, suite, checks=())
    assert sum(record.steps[0].success) > 0
    for row in ('attack = {search = {kind = "pgd"}}\n', ""):
        both = row and 'theirs = {package = "torchattacks", name = "Sign"}\n'
        path.write_text(f'[[steps]]\nid = "a"\n{row}{both}')
        with pytest.raises(Refusal, match=f"step a has {'both' if row else 'neither'}"):
            read_suite(path)
    path.write_text('[[steps]]\nid = "a"\ntheirs = {package = "robustml", name = "Sign"}\n')
    with pytest.raises(Refusal, match="robustml"):
        read_suite(path)


def test_what_cannot_be_had_costs_its_step_alone(packages, linear, points, monkeypatch):
    monkeypatch.setitem(sys.modules, "foolbox", None)
    suite = Suite(
        "s",
        (
            Step("absent", Theirs("foolbox", "Box")),
            Step("unknown", Theirs("torchattacks", "Sine")),
            Step("no class", Theirs("torchattacks", "number")),
            Step("deaf", Theirs("torchattacks", "Deaf")),
            Step("ours", Attack(PGD(3))),
        ),
    )
    record = evaluate(linear, points, THREAT, suite, checks=(), conditions=Conditions(limit=10))
    absent, unknown, number, deaf, ours = record.steps
    assert "foolbox cannot be imported" in absent.skipped
    assert "torchattacks has no attack 'Sine'" in unknown.skipped
    assert "has no attack 'number'" in number.skipped
    assert not deaf.skipped
    assert not any(deaf.success)
    assert any(ours.success)


def test_they_move_within_balls_alone(linear, points):
    x, y = points.batch(torch.arange(3))
    with pytest.raises(Refusal, match="norm balls"):
        Theirs("torchattacks", "PGD")(linear, x, y, Flips(3))
    with pytest.raises(Refusal, match="'cleverhans' is no package"):
        Theirs("cleverhans", "PGD")


STEPS = {"steps": 20, "alpha": 0.04}


@pytest.mark.interop
@pytest.mark.parametrize("threat", [Linf(0.15), L2(0.3)], ids=["linf", "l2"])
def test_torchattacks_and_autoattack_themselves_are_steps(linear, points, threat):
    pytest.importorskip("torchattacks", reason="scripts/interop makes an environment with it")
    linf = isinstance(threat, Linf)
    steps = [Step("pgd", Theirs("torchattacks", "PGD" if linf else "PGDL2", STEPS))]
    try:
        __import__("pyautoattack")
        steps += [Step("apgd", Theirs("autoattack", "apgd-ce"))]
    except ImportError:
        pass
    steps = [Step(step.id, step.attack, everyone=True) for step in steps]
    ours = Step("ours", Attack(PGD(20)), everyone=True)
    record = evaluate(linear, points, threat, Suite("s", (*steps, ours)), checks=())
    for step in record.steps:
        assert not step.skipped, step.skipped
        assert not step.message
        assert 0.6 <= sum(step.success) / sum(record.steps[-1].success) <= 1.3
