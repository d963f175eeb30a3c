from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeproof.attacks import CE, StepCE, Victim, fingerprint, identity, stochastic, under_attack
from spikeproof.errors import Refusal
from spikeproof.models import CNN, MLP, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    CBA,
    IF,
    LIF,
    PDSG,
    ATan,
    Poisson,
    drawing_from,
    seen_through,
    smoothed,
)
from tests.contracts.attack import COUNT, samples, small_network


def total(logits):
    return logits.square().sum(-1)


def test_the_deployed_forward_is_the_models_and_the_gradient_is_the_rules():
    model, (x, _) = small_network(), samples()
    rule = BPTT(ATan())
    victim = Victim(model, rule)
    assert torch.equal(victim.logits(x), model(x))
    assert not victim.logits(x).requires_grad
    logits, losses, gradient = victim.gradient(x, total, per_step=False)
    z = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(seen_through(model, rule)(z)).sum(), z)
    assert torch.equal(gradient, expected)
    assert torch.equal(logits, model(x))
    assert torch.equal(losses, total(model(x)))
    assert not x.requires_grad
    assert victim.same_forward
    assert not Victim(model, CBA()).same_forward
    assert not Victim(model, source=model).same_forward


def test_a_gradient_asks_even_where_gradients_are_off():
    model, (x, _) = small_network(), samples()
    with torch.no_grad():
        _, _, gradient = Victim(model).gradient(x, total, per_step=False)
    assert gradient.abs().sum() > 0


def test_a_closed_model_is_refused():
    class Closed(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)

    with pytest.raises(Refusal, match="does not reach its input"):
        Victim(Closed()).gradient(torch.ones(1, 4), total, per_step=False)
    with pytest.raises(Refusal, match="no method steps"):
        Victim(Closed()).gradient(torch.ones(1, 4), total, per_step=True)


def mixed():
    with isolated(0):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    model.train()
    model[2].eval()
    model[0].weight.requires_grad = False
    return model


def test_under_attack_all_is_frozen_and_comes_back():
    model = mixed()
    with under_attack(model):
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        model(torch.ones(3, 4))
    assert [m.training for m in model.modules()] == [True, True, True, False, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]


def test_it_comes_back_after_an_exception_too():
    model = mixed()
    with pytest.raises(KeyError, match="lost"), under_attack(model):
        raise KeyError("lost")
    assert [m.training for m in model.modules()] == [True, True, True, False, True]
    assert model[3].weight.requires_grad


@pytest.mark.parametrize("what", ["weight", "buffer"])
def test_a_change_is_noticed(what):
    model = mixed()
    thing = model[3].weight if what == "weight" else model[1].running_mean
    with pytest.raises(RuntimeError, match="changed a weight or a buffer"), under_attack(model):
        thing.data[0] += 1e-7
    assert model.training


def test_a_fingerprint_sees_every_bit_name_shape_and_type():
    with isolated(0):
        model = nn.Linear(3, 2)
    seals = {fingerprint(model)}
    with torch.no_grad():
        model.weight[0, 0] = torch.nextafter(model.weight[0, 0], torch.tensor(9.0))
    seals.add(fingerprint(model))
    seals.add(fingerprint(nn.Sequential(model)))
    seals.add(fingerprint(model.double()))
    assert len(seals) == 4
    assert fingerprint(model) == fingerprint(model)


def test_an_identity_sees_the_constants_beside_the_weights():
    make = Setting(1, 4, 3, T=2)
    others = [
        replace(make, T=3),
        replace(make, mean=(0.5,)),
        replace(make, std=(0.5,)),
        replace(make, encoder=Poisson()),
        replace(make, encoder=Poisson(1)),
        replace(make, neuron=LIF()),
        replace(make, neuron=IF(theta=2.0)),
        replace(make, neuron=IF(reset="soft")),
    ]
    nets = [build(MLP((4,)), setting, 0) for setting in (make, *others)]
    assert len({fingerprint(net) for net in nets}) == 1
    nets.append(smoothed(nets[0]))
    nets.append(build(MLP((4,)), make, 1))
    assert len({identity(net) for net in nets}) == len(nets)
    assert identity(nets[0]) == identity(build(MLP((4,)), make, 0))
    assert identity(nets[0]) == identity(seen_through(nets[0], BPTT(ATan())))


def noisy(seed=5):
    model = build(MLP((8,)), Setting(channels=1, size=8, T=4, encoder=Poisson()))
    return drawing_from(model.eval(), generator(seed, "noise"))


def test_the_noise_is_the_victims_and_one_field_for_all():
    model, (x, _) = noisy(), samples()
    assert stochastic(model)
    assert not stochastic(small_network())
    before = model.encode.generator.get_state()
    victim = Victim(model)
    victim.redraw(1)
    first = victim.logits(x)
    assert torch.equal(victim.logits(x), first)
    assert torch.equal(victim.source(x), first)
    torch.testing.assert_close(victim.logits(x[3:5]), first[3:5])
    victim.redraw(2)
    assert not torch.equal(victim.logits(x), first)
    assert torch.equal(model.encode.generator.get_state(), before), "the model's noise was drawn"
    assert isinstance(model.encode.encoder, Poisson)
    assert model.encode.encoder.seed == 0


def test_another_seed_of_a_still_network_changes_nothing():
    model, (x, _) = small_network(), samples()
    victim = Victim(model)
    victim.redraw(1)
    assert victim.model is model
    assert torch.equal(victim.logits(x), model(x))
    assert len(x) == COUNT


@pytest.mark.parametrize("rule", [None, ASSG(), PDSG(), BPTR()], ids=str)
@pytest.mark.parametrize("per_step", [False, True])
def test_a_sample_alone_has_the_gradient_that_it_has_in_company(rule, per_step):
    """A batch of one takes other kernels of the libraries below, whose sums round otherwise."""
    model = build(CNN((8, 16), 16), Setting(channels=1, size=8, T=4)).eval()
    x = torch.rand((9, 1, 8, 8), generator=generator(0, "company"))
    y = torch.arange(9)
    loss = StepCE() if per_step else CE()

    def gradients(parts):
        found = []
        for rows in parts:
            victim = Victim(model, rule)
            for _ in range(2):  # an adaptive rule remembers the first
                answer = victim.gradient(
                    x[rows], lambda z, rows=rows: loss(z, y[rows], y[rows]), per_step=per_step
                )
            assert [len(part) for part in answer] == [len(rows)] * 3
            found.append(answer[2])
        return torch.cat(found)

    whole = gradients([torch.arange(9)])
    assert torch.equal(gradients(torch.arange(9).split(1)), whole)
    assert torch.equal(gradients(torch.arange(9).split(2)), whole)
