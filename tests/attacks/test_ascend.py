from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import (
    CE,
    FAB,
    FGSM,
    L0,
    PGD,
    SEA,
    Attack,
    Flips,
    HopSkipJump,
    Linf,
    Margin,
    RandomSearch,
    Retiming,
    Search,
    Square,
    Standing,
    ascend,
)
from spikeproof.catalogue import KINDS
from spikeproof.errors import Refusal
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import ASSG, IF, Frames


def linear(seed: int = 0) -> nn.Module:
    with isolated(seed, "weights"):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False))


def samples(count: int = 6):
    x = torch.rand((count, 1, 4, 4), generator=generator(1, "samples"))
    return x, torch.arange(count) % 3


def test_one_step_goes_to_the_corner_that_the_gradient_names():
    model, (x, y) = linear(), samples()
    leaf = x.clone().requires_grad_()
    loss = CE()(model(leaf), y, y).sum()
    expected = (x + 0.1 * torch.autograd.grad(loss, leaf)[0].sign()).clamp(0, 1)
    assert torch.equal(ascend(Attack(FGSM()), model, x, y, Linf(0.1), seed=0), expected)


def test_a_fooled_sample_climbs_on():
    """An evaluation leaves a sample at its first error; training goes to the far end."""
    model, (x, _) = linear(), samples()
    wrong = model(x).argmin(1)
    reached = ascend(
        Attack(PGD(30, 0.02, random_start=False), Margin()), model, x, wrong, Linf(0.2), seed=0
    )
    # of a linear margin between two fixed classes the maximum is the corner along its slope
    far = ascend(Attack(FGSM(), Margin()), model, x, wrong, Linf(0.2), seed=0)
    loss = Margin()
    assert (loss(model(reached), wrong, wrong) >= loss(model(far), wrong, wrong) - 1e-5).all()
    assert (loss(model(reached), wrong, wrong) > loss(model(x), wrong, wrong) + 0.1).all()


def test_training_mode_weights_and_buffers_come_back_as_they_were():
    model = build(MLP((8,)), Setting(channels=1, size=4, classes=3, T=3)).train()
    model.layers.append(nn.BatchNorm1d(3))
    model.layers[-1].eval()
    frozen = next(model.parameters())
    frozen.requires_grad = False
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x, y = samples()
    ascend(Attack(PGD(3), rule=ASSG()), model, x, y, Linf(0.1), seed=0)
    assert modes == [module.training for module in model.modules()]
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_starts_are_a_function_of_the_seed():
    model, (x, y) = linear(), samples()
    attack = Attack(PGD(2, 0.01))
    first, same, other = (ascend(attack, model, x, y, Linf(0.1), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_event_attacks_stay_feasible():
    x = (torch.rand((4, 3, 2, 4, 4), generator=generator(2, "events")) < 0.3).float()
    y = torch.tensor([0, 1, 2, 0])
    model = build(MLP((8,)), Setting(channels=2, size=4, classes=3, T=3, encoder=Frames()))
    reached = ascend(Attack(SEA()), model, x, y, Flips(5), seed=0)
    assert Flips(5).admits(reached, x).all()
    assert ((reached - x).abs().sum((1, 2, 3, 4)) <= 5).all()
    assert not torch.equal(reached, x)


def test_a_search_that_does_not_fit_the_threat_is_refused():
    x, y = samples()
    with pytest.raises(Refusal, match="does not fit the threat"):
        ascend(Attack(FGSM()), linear(), x, y, Flips(3), seed=0)


def test_no_query_only_judges(monkeypatch):
    model, (x, y) = linear(), samples()
    asked = []
    monkeypatch.setattr(Standing, "look", lambda *_: asked.append(1))
    ascend(Attack(PGD(2)), model, x, y, Linf(0.1), seed=0)
    assert not asked


@pytest.mark.parametrize("search", [RandomSearch(5), FAB(3), HopSkipJump(50), Square(5)])
def test_a_search_that_climbs_to_no_end_is_refused(search):
    x, y = samples()
    with pytest.raises(Refusal, match="climbs to no end"):
        ascend(Attack(search, Margin()), linear(), x, y, Linf(0.1), seed=0)


@pytest.mark.parametrize("search", [s for s in KINDS[Search] if s.climbs], ids=lambda s: s.kind)
def test_whatever_climbs_ends_inside_the_threat_and_higher(search):
    threats = {Flips: Flips(3), Retiming: Retiming(2), L0: L0(3)}
    threat = next((t for kind, t in threats.items() if kind in search.fits), Linf(0.2))
    model, (x, y) = linear(), samples()
    if isinstance(threat, Flips | Retiming):
        setting = Setting(
            channels=1, size=4, classes=3, T=4, encoder=Frames(), neuron=IF(theta=0.2)
        )
        model = build(MLP((8,)), setting)
        x = (torch.rand((6, 4, 1, 4, 4), generator=generator(2, "events")) < 0.3).float()
    end = ascend(Attack(search(), rule=None), model, x, y, threat, seed=0)
    assert threat.admits(end, x).all()
    assert not torch.equal(end, x)
    loss = CE()
    assert loss(model(end), y, y).mean() > loss(model(x), y, y).mean()


def test_samples_beyond_the_range_of_the_threat_are_refused():
    x, y = samples()
    with pytest.raises(Refusal, match=r"from 0.* to [34]"):
        ascend(Attack(FGSM()), linear(), 4 * x, y, Linf(0.1), seed=0)
