from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.interop import Adopted, Adoption
from spikeproof.interop._lent import Lent
from spikeproof.spiking import ASSG, BPTR, BPTT, CBA, HART, PDSG, RGA, ATan, Triangle, seen_through
from tests.interop.networks import close, gradient, samples
from tests.interop.test_handwritten import Fires


class Awake(nn.Module):
    """A neuron that drops its surrogate in eval mode, with more inside than we know."""

    def __init__(self):
        super().__init__()
        self.surrogate_function = nn.Module()
        self.detach_reset = False

    def forward(self, x):
        u, out = torch.zeros_like(x), 0
        for _ in range(4):
            u = 0.5 * u + x + 0.1 * u * u
            s = self.surrogate_function(u - 1) if self.training else (u >= 1).float()
            u = u * (1 - (s.detach() if self.detach_reset else s))
            out = out + s
        return out


class Curve(nn.Module):
    def forward(self, u):
        return Fires.apply(u)


def lent(rule=None):
    neuron = Awake()
    neuron.surrogate_function = Curve()
    layer = Lent(neuron, BPTT(Triangle(1.0)) if rule is None else rule)
    return Adopted(nn.Sequential(layer), Adoption({})).eval(), neuron


def bare():
    neuron = Awake()
    neuron.surrogate_function = Curve()
    return neuron


def test_a_surrogate_is_exchanged_and_stays_in_eval_mode():
    x, (net, _) = 2 * samples(), lent()
    assert not bare().eval()(x.requires_grad_()).requires_grad
    x = x.detach()
    close(gradient(bare(), x), gradient(net, x))
    assert torch.equal(net(x), bare()(x))
    neuron = bare()
    neuron.detach_reset = True
    view = seen_through(net, BPTT(Triangle(1.0), detach_reset=True))
    close(gradient(neuron, x), gradient(view, x))


def test_training_and_eval_pass_it_by():
    net, _ = lent()
    net.train().eval()
    assert net.net[0].theirs.training
    assert not net.net[0].training
    assert net.net[0].detach_reset is False, "its attributes are there"


@pytest.mark.parametrize("rule", [BPTT(ATan(2.0)), ASSG(), PDSG()], ids=lambda rule: rule.kind)
def test_rules_of_surrogates_are_followed(rule):
    x, (net, _) = 2 * samples(), lent()
    view = seen_through(net, rule)
    first = gradient(view, x)
    assert first.any()
    assert not torch.equal(first, gradient(net, x))
    assert torch.equal(view(x), net(x))


@pytest.mark.parametrize("rule", [BPTR(), HART(), RGA(), CBA()], ids=lambda rule: rule.kind)
def test_rules_that_want_more_are_refused(rule):
    x, (net, _) = samples(), lent()
    with pytest.raises(Refusal, match="neurons"):
        gradient(seen_through(net, rule), x)


def test_without_an_attribute_it_keeps_what_it_has():
    class Own(nn.Module):
        def forward(self, x):
            return Fires.apply(x)

    net, x = Adopted(nn.Sequential(Lent(Own(), None)), Adoption({})), samples()
    assert torch.equal(gradient(net, x), gradient(Own(), x))
