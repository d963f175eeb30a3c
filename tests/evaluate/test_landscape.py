from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import margins
from spikeproof.errors import Refusal
from spikeproof.evaluate import Directional, agreement, directional, plane
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import BPTR, BPTT, Triangle, smoothed


def linear():
    with isolated(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.rand((2, 6), generator=generator(0, "w")) - 0.5)
        net[1].bias.copy_(torch.tensor([0.1, -0.2]))
    return net.double().requires_grad_(requires_grad=False)


X = torch.rand((1, 1, 2, 3), generator=generator(0, "x"), dtype=torch.float64)
Y = torch.tensor([0])


def test_the_margin_of_a_linear_model_is_a_plane():
    way = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(1, 1, 2, 3)
    found = plane(linear(), X, Y, 0.1, adversarial=X + 0.05 * way, side=5)
    margin = torch.tensor(found.margin).reshape(5, 5)
    assert found.at == pytest.approx((-0.2, -0.1, 0.0, 0.1, 0.2))
    assert float(margin[2, 2]) == pytest.approx(float(margins(linear()(X), Y)))
    for n, at in enumerate(found.at):
        there = float(margins(linear()(X + at * way), Y))
        assert float(margin[n, 2]) == pytest.approx(there)  # the row goes to the adversarial
    assert torch.allclose(margin.diff(dim=0), margin.diff(dim=0)[:1, :1].expand(4, 5))
    assert torch.allclose(margin.diff(dim=1), margin.diff(dim=1)[:1, :1].expand(5, 4))
    assert len(found.loss) == 25
    assert found.kind == "adversarial"


def test_a_random_plane_is_a_matter_of_sample_and_seed(net, handwriting):
    x, y = handwriting.test.batch(torch.arange(1))
    first = plane(net, x, y, 0.1, sample=3, side=3, seed=1)
    assert first == plane(net, x, y, 0.1, sample=3, side=3, seed=1)
    assert first.margin != plane(net, x, y, 0.1, sample=4, side=3, seed=1).margin
    assert first.kind == "random"
    with torch.no_grad():
        assert first.margin[4] == pytest.approx(float(margins(net(x), y)), abs=1e-5)


def test_gradient_and_differences_agree_where_the_network_is_smooth(net, handwriting):
    x, y = handwriting.test.batch(torch.arange(1))
    found = directional(smoothed(net), x, y, 0.02)
    assert [one.step for one in found] == pytest.approx([0.0025, 0.005, 0.01, 0.02])
    assert agreement(found[0]) >= 0.95
    scale = max(map(abs, found[0].predicted))
    assert found[0].measured == pytest.approx(found[0].predicted, abs=0.05 * scale)


def test_every_rule_predicts_and_the_network_answers_once(net, handwriting):
    x, y = handwriting.test.batch(torch.arange(1))
    own, other, needle = (
        directional(net, x, y, 0.1, rule=rule) for rule in (None, BPTR(), BPTT(Triangle(1e-6)))
    )
    assert [one.measured for one in own] == [one.measured for one in other]
    assert own[0].predicted != other[0].predicted
    assert not any(needle[0].predicted)
    assert agreement(needle[3]) == 0.0  # a gradient of zero predicts no sign


def test_directions_without_a_change_say_nothing():
    pairs = Directional(0, "own gradient", 0.1, (1.0, -1.0, 2.0, 1.0), (2.0, 1.0, 0.0, 0.5))
    assert agreement(pairs) == pytest.approx(2 / 3)
    assert agreement(Directional(0, "own gradient", 0.1, (1.0,), (0.0,))) is None


def test_planes_need_one_sample_and_a_direction():
    with pytest.raises(Refusal, match="around 2 samples"):
        plane(linear(), X.repeat(2, 1, 1, 1), Y.repeat(2), 0.1)
    with pytest.raises(Refusal, match="the sample itself"):
        plane(linear(), X, Y, 0.1, adversarial=X)
