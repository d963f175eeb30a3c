from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.compress import NM, Hydra, Magnitude, kept_count, masks_of, prunable
from spikeproof.compress._scores import Scores, first_scores, scores_of
from spikeproof.errors import Refusal
from spikeproof.spiking import BPTR, seen_through
from tests.compress.descent import descend, learning, linear, network
from tests.oracles import pruning


def test_first_scores_are_the_weights_scaled():
    weight = torch.tensor([[1.0, -4.0, 2.0], [0.5, 0.0, 3.0]])
    torch.testing.assert_close(first_scores(weight), math.sqrt(2.0) * weight / 4)
    conv = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    wanted = math.sqrt(6 / 75) * conv / conv.abs().max()
    torch.testing.assert_close(first_scores(conv), wanted)
    assert torch.equal(first_scores(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("kappa", [0.0, 0.5, 0.9, 0.99])
def test_every_layer_keeps_its_count_and_at_first_by_magnitude(kappa):
    model = network()
    wanted = Magnitude(kappa).masks(model)
    assert Hydra(kappa).masks(model).digest() == wanted.digest()
    assert not list(scores_of(model)), "asking changes nothing"
    assert Hydra(kappa).begin(model).digest() == wanted.digest()
    for name, layer in scores_of(model):
        weight = prunable(model)[name]
        assert layer.mask().sum() == kept_count(weight.numel(), kappa)
        assert torch.equal(layer(weight) != 0, wanted.kept[name])


def test_the_gradient_of_scores_goes_straight_through():
    """dL/ds = dL/dw_in_force * w * sign(s), for the removed weights too; w has none."""
    model = linear(5, 4, 3)
    Hydra(0.6).begin(model)
    layers = dict(scores_of(model))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in layers.values():
            layer.scores.copy_(torch.randn(layer.scores.shape, generator=draw))
    x = torch.randn(7, 5, generator=draw, dtype=torch.float64)
    target = torch.randn(7, 3, generator=draw, dtype=torch.float64)
    (model(x) - target).square().sum().backward()

    w1, w2 = (weight.detach() for weight in prunable(model).values())
    s1, s2 = (layer.scores for layer in layers.values())
    m1, m2 = (torch.tensor(pruning.magnitude(s.detach().numpy(), 0.6)) for s in (s1, s2))
    hidden = (x @ (w1 * m1).T).clamp_min(0)
    error = 2 * (hidden @ (w2 * m2).T - target)
    g2 = error.T @ hidden
    g1 = ((error @ (w2 * m2)) * (hidden > 0)).T @ x
    torch.testing.assert_close(s2.grad, g2 * w2 * s2.sign())
    torch.testing.assert_close(s1.grad, g1 * w1 * s1.sign())
    assert all(weight.grad is None for weight in prunable(model).values())


def test_weights_and_biases_of_scored_layers_stay_and_the_rest_learns():
    model = learning()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    method = Hydra(0.7)
    first = method.begin(model)
    descend(model, method.hold(15, 1), 15)
    found = method.masks(model)
    assert found.digest() != first.digest()
    assert found.counts == first.counts
    assert method.end(model).digest() == found.digest()
    after = dict(model.named_parameters())
    assert after.keys() == before.keys(), "a plain network is left"
    weights = prunable(model)
    for name, p in after.items():
        assert p.requires_grad
        layer = name.rpartition(".")[0]
        if name in weights:
            assert torch.equal(p, before[name] * found.kept[name])
        elif f"{layer}.weight" in weights:
            assert torch.equal(p, before[name]), "a bias"
        else:
            assert not torch.equal(p, before[name]), name
    assert masks_of(model).digest() == found.digest()


def test_a_search_gives_the_logits_of_the_network_that_it_leaves():
    model = learning().eval()
    method = Hydra(0.7)
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    method.begin(model)
    descend(model, method.hold(5, 1), 5)
    logits = model.eval()(x)
    assert torch.equal(seen_through(model, BPTR())(x), logits), "views see scores"
    method.end(model)
    assert torch.equal(model(x), logits)


def test_a_new_score_is_seen_at_once_and_a_mask_is_picked_once_a_step(monkeypatch):
    model = linear(6, 4)
    Hydra(0.5).begin(model)
    ((_, layer),) = scores_of(model)
    picks = []
    pattern = type(layer.pattern)
    pick = pattern.pick
    monkeypatch.setattr(pattern, "pick", lambda *a: picks.append(1) or pick(*a))
    x = torch.ones(1, 6, dtype=torch.float64)
    first = model(x)
    model(x)
    assert len(picks) <= 1
    with torch.no_grad():
        layer.scores.copy_(-layer.scores.flip(1))
    assert not torch.equal(model(x), first)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        layer.scores.mul_(torch.arange(6))
    other = model(x)
    model.load_state_dict(state)
    assert not torch.equal(model(x), other)


def test_scores_choose_in_patterns():
    model = network()
    masks = Hydra(0.5, NM(2, 4)).begin(model)
    wide = next(m for m in masks.kept.values() if m.shape[1:].numel() % 4 == 0)
    assert (wide.flatten(1).unflatten(1, (-1, 4)).sum(2) == 2).all()


def test_ending_a_copy_leaves_the_original_alone_and_the_other_way_round():
    model = learning().eval()
    method = Hydra(0.7)
    method.begin(model)
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    logits, copied = model(x), copy.deepcopy(model)
    method.end(copied)
    assert torch.equal(copied(x), logits)
    assert torch.equal(model(x), logits)
    again = copy.deepcopy(model)
    method.end(model)
    assert torch.equal(again(x), logits)
    order = [name for name, _ in learning().named_parameters()]
    assert [name for name, _ in model.named_parameters()] == order
    assert type(model.layers[0]) is type(learning().layers[0])


def test_weights_that_are_computed_already_are_refused():
    model = network()
    nn.utils.parametrizations.weight_norm(model.layers[0])
    with pytest.raises(Refusal, match="computed from others"):
        Hydra().begin(model)


def test_two_searches_at_once_are_refused():
    model = network()
    Hydra().begin(model)
    with pytest.raises(Refusal, match="holds scores already"):
        Hydra().begin(model)


def test_equal_scores_go_first_come_first():
    layer = Scores(torch.zeros(1, 10), 3, Hydra().pattern)
    assert np.flatnonzero(layer.mask().numpy()).tolist() == [7, 8, 9]
