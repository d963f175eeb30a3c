from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from spikeproof.attacks import CE, Victim
from spikeproof.attacks._crowd import Crowd
from spikeproof.errors import Refusal
from spikeproof.spiking import ASSG, BPTT, LIF, PDSG, Spiking, Triangle
from tests.contracts.attack import samples, small_network

RULES = (None, ASSG(), BPTT(Triangle(0.5)), PDSG())
SIZES = (3, 4, 1, 5)


def slopes(victim, x, y):
    return victim.gradient(x, lambda logits: CE()(logits, y, y), per_step=False)


def rows(sizes):
    x, y = samples()
    return x[: sum(sizes)], y[: sum(sizes)]


def parts(sizes):
    edges = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return [slice(low, high) for low, high in itertools.pairwise(edges)]


def test_every_part_gets_the_gradient_of_its_rule_and_keeps_its_memory():
    model, (x, y) = small_network(), rows(SIZES)
    crowd = Crowd(model, RULES, SIZES)
    alone = [Victim(model, rule) for rule in RULES]
    sizes = SIZES
    for kept in (None, torch.tensor([0, 2, 3, 6, 8, 9, 11]), None):
        if kept is not None:
            for victim, part in zip(alone, parts(sizes), strict=True):
                mine = kept[(kept >= part.start) & (kept < part.stop)] - part.start
                victim.keep(mine)
            crowd.keep(kept)
            x, y, sizes = x[kept], y[kept], (2, 2, 0, 3)
        logits, _, gradient = slopes(crowd, x, y)
        assert torch.equal(logits, model(x))
        for victim, part in zip(alone, parts(sizes), strict=True):
            if part.stop > part.start:
                assert torch.equal(gradient[part], slopes(victim, x[part], y[part])[2])


def test_a_row_that_is_alone_and_a_new_batch():
    model, (x, y) = small_network(), rows(SIZES)
    crowd, fresh = Crowd(model, RULES, SIZES), Crowd(model, RULES, SIZES)
    first = slopes(crowd, x, y)[2]
    crowd.keep(torch.tensor([4]))
    lone = Victim(model, RULES[1])
    slopes(lone, x[3:7], y[3:7])
    lone.keep(torch.tensor([1]))
    assert torch.equal(slopes(crowd, x[4:5], y[4:5])[2], slopes(lone, x[4:5], y[4:5])[2])
    slopes(fresh, x, y)
    assert not torch.equal(slopes(fresh, x, y)[2], first), "the rule has a memory"
    fresh.forget()
    assert torch.equal(slopes(fresh, x, y)[2], first)


def test_one_rule_needs_no_parts():
    model = small_network()
    assert Crowd(model, (None,), (4,)).source is model
    x, y = rows((4,))
    expected = slopes(Victim(model, ASSG()), x, y)[2]
    assert torch.equal(slopes(Crowd(model, (ASSG(),), (4,)), x, y)[2], expected)


def test_a_layer_that_stands_twice_stays_one_layer():
    layer = Spiking(LIF(), 1)
    model = nn.Sequential(nn.Identity(), layer, nn.Flatten(), layer).eval()
    crowd = Crowd(model, (None, BPTT(Triangle(0.5))), (2, 2))
    assert crowd.source[1] is crowd.source[3]
    assert torch.equal(crowd.source(torch.ones(4, 4)), model(torch.ones(4, 4)))


def test_a_network_that_is_one_layer_of_neurons_is_refused():
    with pytest.raises(Refusal, match="single layer of neurons"):
        Crowd(Spiking(LIF(), 1), (None, BPTT(Triangle(0.5))), (2, 2))
