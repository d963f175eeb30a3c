from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.interop import Adopted, Adoption
from spikeproof.interop._handwritten import HandWrittenNeurons
from spikeproof.spiking import HART, Triangle, seen_through
from tests.interop.networks import close, gradient, samples
from tests.interop.test_steps import Leaky, Net, ours, theirs


def test_an_average_over_time_reaches_through_steps():
    x, rule = samples(), HART(Triangle(0.7))
    net = theirs("soft", "steps").requires_grad_(False)
    close(gradient(seen_through(ours("soft"), rule), x), gradient(seen_through(net, rule), x))


def test_the_backward_pass_can_be_repeated():
    net = seen_through(theirs("hard", "steps").requires_grad_(False), HART())
    x = samples().requires_grad_()
    loss = net(x).square().sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)
    assert first.any()


def test_weights_that_learn_are_refused():
    net = seen_through(theirs("hard", "steps"), HART())
    with pytest.raises(Refusal, match="freeze the weights"):
        gradient(net, samples())
    with torch.no_grad():
        net(samples())


def test_a_layer_that_feeds_itself_is_refused():
    class Back(Net):
        def forward(self, x):
            out, back = 0, 0
            for _ in range(3):
                first = self.n1(2 * self.a(x) + back)
                second = self.n2(2 * self.b(first))
                back, out = second.sum(1, keepdim=True), out + self.c(second)
            return out

    layers = [HandWrittenNeurons(Leaky(whole=False)) for _ in range(2)]
    net = Adopted(Back(*layers, "steps"), Adoption({})).requires_grad_(False)
    net(samples())
    assert gradient(net, samples()).any()
    with pytest.raises(Refusal, match="reach it again"):
        gradient(seen_through(net, HART()), samples())


def test_outside_of_an_adopted_network_it_is_refused():
    layer = HandWrittenNeurons(Leaky(whole=False))
    bare = seen_through(nn.Sequential(layer), HART())
    with pytest.raises(Refusal, match="only what adopt returns"):
        bare(samples().requires_grad_())
