from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.interop import Adopted, Adoption, Neuron
from spikeproof.interop._handwritten import HandWrittenNeurons
from spikeproof.interop._steps import Trail
from spikeproof.seeding import isolated
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    CBA,
    HART,
    LIF,
    PDSG,
    RGA,
    ATan,
    Spiking,
    Triangle,
    keep_samples,
    recorded,
    seen_through,
    smoothed,
    unobserved,
)
from tests.interop.networks import STEPS, close, gradient, samples

RULES = [
    BPTT(),
    BPTT(ATan(2.0), detach_reset=True),
    ASSG(),
    ASSG(Triangle(1.0), detach_reset=False),
    PDSG(),
    RGA(),
    BPTR(),
    HART(),
    CBA(),
    CBA("clip_floor"),
]


class Leaky(nn.Module):
    """Our own neuron, written by hand: all rules must do with it what they do with ours."""

    theta, tau = 0.8, 0.5

    def __init__(self, reset="hard", *, whole):
        super().__init__()
        self.kind, self.time_axis = reset, 0 if whole else None

    def charge(self, current, state):
        u = current if state is None else self.tau * state[0] + current
        return u - self.theta, (u,)

    def reset(self, spikes, state):
        (u,) = state
        return (u * (1 - spikes) if self.kind == "hard" else u - self.theta * spikes,)


class Net(nn.Module):
    """Two layers of neurons around linear ones; folded, in whole trains, or step by step."""

    def __init__(self, first, second, how):
        super().__init__()
        self.how, self.n1, self.n2 = how, first, second
        with isolated(0):
            self.a, self.b, self.c = nn.Linear(6, 40), nn.Linear(40, 30), nn.Linear(30, 4)

    def forward(self, x):
        if self.how == "steps":
            return sum(self.after(2 * self.a(x)) for _ in range(STEPS)) / STEPS
        if self.how == "whole":
            return self.after(2 * self.a(x).expand(STEPS, -1, -1)).mean(0)
        return self.after(2 * self.a(x)).unflatten(0, (-1, len(x))).mean(0)

    def after(self, current):
        return self.c(self.n2(2 * self.b(self.n1(current))))


def ours(reset):
    neuron = LIF(tau=0.5, theta=0.8, reset=reset)
    return Net(Spiking(neuron, STEPS, opens_time=True), Spiking(neuron, STEPS), "folded").eval()


def theirs(reset, how):
    layers = [HandWrittenNeurons(Leaky(reset, whole=how == "whole")) for _ in range(2)]
    net = Adopted(Net(*layers, how), Adoption({})).eval()
    net(samples(2))  # as a proof does: a layer learns how it is called
    return net


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("how", ["steps", "whole"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_every_rule_does_with_foreign_neurons_what_it_does_with_ours(rule, how, reset):
    x, one, other = samples(), ours(reset), theirs(reset, how)
    other.requires_grad_(False)
    assert torch.allclose(one(x), other(x), atol=1e-6)
    view, mirror = seen_through(one, rule), seen_through(other, rule)
    for _ in range(3):  # adaptive rules remember
        close(gradient(view, x), gradient(mirror, x))
    if not isinstance(rule, CBA):
        assert torch.equal(mirror(x), other(x)), "a rule never changes a logit"
    keep_samples(view, torch.arange(5))
    keep_samples(mirror, torch.arange(5))
    with unobserved(view), unobserved(mirror):
        close(gradient(view, x[:5]), gradient(mirror, x[:5]))


@pytest.mark.parametrize("how", ["steps", "whole"])
def test_a_smooth_view_is_truly_differentiable(how):
    x, net = samples(3), smoothed(seen_through(theirs("soft", how), BPTT(ATan(2.0))))
    close(gradient(smoothed(seen_through(ours("soft"), BPTT(ATan(2.0)))), x), gradient(net, x))


@pytest.mark.parametrize("how", ["steps", "whole"])
def test_the_gradient_of_weights_is_there_too(how):
    x, one, other = samples(), ours("hard"), theirs("hard", how)
    gradient(one, x)
    gradient(other, x)
    close(one.a.weight.grad, other.net.a.weight.grad)


@pytest.mark.parametrize("how", ["steps", "whole"])
def test_nothing_outlives_a_call(how):
    net, x = theirs("hard", how), samples()
    first = gradient(net, x)
    assert torch.equal(first, gradient(net, x))
    assert torch.allclose(net(x)[:3], net(x[:3]), atol=1e-6)
    gc.collect()
    assert not any(type(thing) is Trail for thing in gc.get_objects())
    with pytest.raises(RuntimeError):
        net(torch.zeros(3, 7))
    assert torch.equal(first, gradient(net, x)), "a failed call leaves nothing behind"


def test_firing_is_recorded_in_whole_trains_as_in_ours():
    x, rates = samples(), []
    for net in (ours("hard"), theirs("hard", "whole")):
        with torch.no_grad(), recorded(net) as layers:
            net(x)
        rates.append([layer.rate for layer in layers.values()])
    for one, other in zip(*rates, strict=True):
        assert one.mean() > 0.01
        assert torch.equal(one, other)


def test_a_second_derivative_is_refused():
    net, x = theirs("hard", "steps"), samples().requires_grad_()
    with pytest.raises(Refusal, match="create_graph=True"):
        torch.autograd.grad(net(x).sum(), x, create_graph=True)


def test_a_neuron_is_told_by_its_two_methods():
    assert isinstance(Leaky(whole=True), Neuron)
    assert not isinstance(nn.ReLU(), Neuron)
    assert "Dynamics" in repr(HandWrittenNeurons(Leaky(whole=True)))
