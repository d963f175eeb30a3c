from __future__ import annotations

import math

import pytest
import torch

from spikeproof.compress import Harp, kept_count, masks_of, over_budget, prunable, within_budget
from spikeproof.compress._budgets import budgets, over_density, shifted
from spikeproof.compress._scores import scores_of
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from tests.compress.descent import descend, learning, linear, network, sgd


def sizes(model):
    return {name: w.numel() for name, w in prunable(model).items()}


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.99])
def test_layers_begin_at_a_tenth_or_at_the_density(kappa):
    model = network()
    method = Harp(kappa)
    method.begin(model)
    start = max(0.1, 1 - kappa)
    for layer in budgets(model):
        assert layer.share().item() == pytest.approx(start, rel=1e-5)
        assert layer.least == pytest.approx(0.1 * (1 - kappa))
        assert layer.count() == pytest.approx(start * layer.scores.numel(), abs=1.01)
    assert within_budget(model) == (kappa <= 0.9)
    assert over_density(model).item() == pytest.approx(start / (1 - kappa) - 1, abs=1e-5)


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_what_is_handed_out_keeps_the_budget_and_every_floor(kappa, spread):
    model = network()
    method = Harp(kappa)
    method.begin(model)
    draw = generator(0, "rates", int(100 * kappa))
    with torch.no_grad():
        for layer in budgets(model):
            layer.rate.add_(spread * torch.randn((), generator=draw))
    masks = method.end(model)
    total = sum(sizes(model).values())
    assert masks.weights == kept_count(total, kappa)
    for name, n in sizes(model).items():
        assert masks.counts[name] >= int(0.1 * (1 - kappa) * n)
    if spread:
        shares = list(masks.densities.values())
        assert max(shares) > 2 * min(shares), "budgets differ"
    assert masks_of(model).digest() == masks.digest()


def test_one_number_is_added_to_all_rates():
    rates, counts = {"a": -3.0, "b": 0.5, "c": 2.0}, {"a": 500, "b": 300, "c": 200}
    found = shifted(rates, counts, 0.01, 137)
    assert sum(found.values()) == pytest.approx(137)
    shares = {n: (found[n] / counts[n] - 0.01) / 0.99 for n in rates}
    shift = {n: math.log(s / (1 - s)) - rates[n] for n, s in shares.items()}
    assert max(shift.values()) - min(shift.values()) < 1e-6


def test_the_gradient_of_a_rate_is_the_sum_of_the_masks_gradients():
    model = linear(5, 4)
    Harp(0.6).begin(model)
    ((name, layer),) = scores_of(model)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(7, 5, generator=draw, dtype=torch.float64)
    model(x).square().sum().backward()
    weight = prunable(model)[name].detach()
    y = x @ (weight * layer.mask()).T
    at_mask = (2 * y).T @ x * weight
    least, sigmoid = layer.least, torch.sigmoid(layer.rate).item()
    wanted = at_mask.sum().item() * (1 - least) * sigmoid * (1 - sigmoid)
    assert layer.rate.grad.item() == pytest.approx(wanted)
    torch.testing.assert_close(layer.scores.grad, at_mask * layer.scores.sign())


def test_the_penalty_is_the_share_over_the_budget_times_the_pressure():
    model = network()
    method = Harp(0.99, gamma=0.5)
    method.begin(model)
    hold, optimizer = method.hold(100, 10), sgd(model)
    hold(model, optimizer, 0)
    kept = sum(layer.share() * layer.scores.numel() for layer in budgets(model)).item()
    total = sum(sizes(model).values())
    loss = over_budget(model)
    assert loss.item() == pytest.approx(0.5 * (kept / (total * 0.01) - 1), rel=1e-4)
    loss.backward()
    for layer in budgets(model):
        k = torch.sigmoid(layer.rate).item()
        slope = 0.5 * layer.scores.numel() / (total * 0.01) * (1 - layer.least) * k * (1 - k)
        assert layer.rate.grad.item() == pytest.approx(slope, rel=1e-4)


def test_pressure_rises_by_the_epoch_until_the_budget_is_first_kept():
    model = network()
    method = Harp(0.99, gamma=0.01)
    method.begin(model)
    hold, optimizer = method.hold(100, 10), sgd(model)
    for step, wanted in ((0, 0.01), (9, 0.01), (10, 0.02), (20, 0.03), (25, 0.03)):
        hold(model, optimizer, step)
        assert {round(b.pressure.item(), 6) for b in budgets(model)} == {wanted}
    rates = [layer.rate.detach().clone() for layer in budgets(model)]
    with torch.no_grad():
        for layer in budgets(model):
            layer.rate.fill_(-20)
    assert over_budget(model).item() == 0
    hold(model, optimizer, 30)
    with torch.no_grad():
        for layer, rate in zip(budgets(model), rates, strict=True):
            layer.rate.copy_(rate)
    hold(model, optimizer, 90)
    assert budgets(model)[0].pressure.item() == pytest.approx(0.03), "frozen"
    assert over_budget(model).item() > 0


def test_a_budget_that_is_kept_from_the_start_is_under_pressure_all_the_same():
    model = network()
    method = Harp(0.9, gamma=0.01)
    method.begin(model)
    assert within_budget(model)
    method.hold(100, 10)(model, sgd(model), 0)
    assert {round(layer.pressure.item(), 6) for layer in budgets(model)} == {0.01}


def test_a_search_meets_its_global_rate():
    model = learning()
    method = Harp(0.97, gamma=1.0)
    method.begin(model)
    assert not within_budget(model)
    descend(model, method.hold(30, 10), 30, loss=over_budget)
    assert within_budget(model)
    counts = {n: s.count() for n, s in scores_of(model)}
    total = sum(sizes(model).values())
    assert sum(counts.values()) <= total - int(0.97 * total) + len(counts)
    for name, layer in scores_of(model):
        assert counts[name] >= int(0.1 * 0.03 * layer.scores.numel())
    masks = method.end(model)
    assert masks.weights == kept_count(total, 0.97)


def test_impossible_budgets_are_refused():
    with pytest.raises(Refusal, match="between its floor and all of its weights"):
        Harp(0.0)
    with pytest.raises(Refusal, match="no learned budgets"):
        over_budget(network())
