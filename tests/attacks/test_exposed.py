from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import Exposed
from spikeproof.data import digits
from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.spiking import ASSG, LIF, Encode, Gates, Poisson, drawing_from, seen_through

X, Y = digits().test.batch(torch.arange(8))


def network(**more):
    return build(CNN((8,), 16), Setting(channels=1, size=8, T=3, neuron=LIF(theta=0.3), **more))


def slope(net, x=X):
    at = x.clone().requires_grad_()
    (d,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net(at), Y), at)
    return d


def test_it_answers_as_the_network_does_in_eval_mode_and_leaves_it_as_it_was():
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net = Exposed(model)
    assert net.train() is net
    assert not net.training
    with torch.no_grad():
        first = net(X)
        assert torch.equal(first, net(X))
        assert model.training
        assert torch.equal(first, model.eval()(X))
    model.train()
    slope(net)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert dict(net.named_parameters()), "packages ask where the weights are"


def test_the_gradient_is_the_one_of_the_rule_and_forgets_between_calls():
    model = network().eval()
    net = Exposed(model, ASSG())
    fresh = slope(seen_through(model, ASSG()))
    assert torch.equal(slope(net), fresh)
    assert torch.equal(slope(net), fresh), "what an adaptive rule remembers ends with the call"
    assert not torch.equal(fresh, slope(model))
    assert torch.equal(net(X), model(X))


@pytest.mark.parametrize(
    "more", [{"encoder": Poisson()}, {"gates": Gates(0.6)}], ids=["code", "gates"]
)
def test_of_noise_it_is_the_mean_over_the_same_draws(more):
    model = drawing_from(network(**more).eval(), torch.Generator())
    one, many = Exposed(model), Exposed(model, draws=5)
    with torch.no_grad():
        assert torch.equal(many(X), many(X))
        assert not torch.equal(one(X), many(X))
        assert torch.equal(one(X)[:3], one(X[:3])), "one field of noise for all samples"
    assert slope(many).any()


def test_draws_are_counted():
    with pytest.raises(Refusal, match="draws"):
        Exposed(network(), draws=0)
    assert isinstance(Exposed(network()).model.encode, Encode)
