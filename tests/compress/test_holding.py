from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spikeproof.compress import Magnitude, Masks, RigL, apply, holding, masks_of, prunable
from spikeproof.compress._patterns import Unstructured
from spikeproof.data import Split
from spikeproof.seeding import generator
from spikeproof.training import SGD, CrossEntropy, Plan, fit
from tests.compress.descent import descend, learning, linear, network, sgd

OPTIMIZERS = {
    "sgd": sgd,
    "nesterov": lambda m: torch.optim.SGD(
        m.parameters(), 0.05, 0.9, weight_decay=0.1, nesterov=True
    ),
    "adam": lambda m: torch.optim.Adam(m.parameters(), 0.01, weight_decay=0.1),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), 0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("make", [network, learning], ids=["analog", "spiking"])
def test_masks_are_exact_after_100_steps_with_momentum_and_decay(make, name):
    model = make()
    masks = Magnitude(0.8).begin(model)
    start = {n: w.detach().clone() for n, w in prunable(model).items()}
    optimizer = descend(model, holding(masks), 100, OPTIMIZERS[name](model))
    assert masks_of(model).digest() == masks.digest()
    for n, weight in prunable(model).items():
        gone = ~masks.kept[n]
        assert (weight[gone] == 0).all()
        assert not torch.equal(weight, start[n])
        for value in optimizer.state[weight].values():
            if value.shape == weight.shape:
                assert (value[gone] == 0).all(), "the optimizer remembers a removed weight"
                assert (value[~gone] != 0).any()


def test_without_it_momentum_brings_weights_back():
    model = network()
    masks = Magnitude(0.8).begin(model)
    descend(model, lambda *_: None, 3)
    assert masks_of(model).weights > masks.weights


def test_masks_are_read_from_the_weights_at_the_first_call():
    model, other = network(), network()
    masks = Magnitude(0.8).begin(model)
    apply(other, masks)
    descend(model, holding(masks), 5)
    descend(other, holding(), 5)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_parts_left_dense_are_not_held():
    model = network()
    masks = Magnitude(0.8, dense=("head",)).begin(model)
    head = list(prunable(model))[-1]
    assert head not in masks.kept
    with torch.no_grad():
        prunable(model)[head].zero_()
    descend(model, holding(dense=("head",)), 3)
    assert (prunable(model)[head] != 0).any()
    assert masks_of(model, ["head"]).digest() == masks.digest()


def test_a_held_layer_learns_as_one_that_has_no_other_weights():
    """Momentum and decay of a kept weight are those of a network without the removed ones."""
    model = linear(4, 1)
    weight = model[0]
    mask = torch.tensor([[True, False, True, False]])
    masks = Masks({"0.weight": mask})
    apply(model, masks)
    small = linear(2, 1)[0]
    small.weight.data = weight.weight.data[mask][None].clone()
    x = torch.arange(12, dtype=torch.float64).reshape(3, 4) / 10
    hold = holding(masks)
    pairs = [(model, sgd(model), x), (small, sgd(small), x[:, mask[0]])]
    hold(model, pairs[0][1], 0)
    for step in range(1, 20):
        for net, optimizer, given in pairs:
            optimizer.zero_grad()
            net(given).square().sum().backward()
            optimizer.step()
        hold(model, pairs[0][1], step)
    torch.testing.assert_close(weight.weight[mask], small.weight[0])


def test_a_change_sees_the_masks_so_far_and_is_obeyed():
    model, seen = network(), []

    def halve(weights, now, optimizer, step):
        seen.append((step, now.weights))
        pick = Unstructured().pick
        return Masks({n: pick(w.abs(), now.counts[n] // 2 + 1) for n, w in weights.items()})

    descend(model, holding(change=halve), 3)
    counts = [n for _, n in seen]
    assert [step for step, _ in seen] == [1, 2, 3]
    assert counts == sorted(counts, reverse=True)
    assert masks_of(model).weights < counts[-1]


def fitted(model, hold, folder: Path, **knobs):
    draw = generator(0, "fit")
    x, y = torch.rand((40, 2, 6, 6), generator=draw), torch.randint(3, (40,), generator=draw)
    plan = Plan(3, 8, SGD(0.05, 0.9, 0.01), clip=0.5, save_every=4)
    ask = {"validate": lambda net: {"accuracy": masks_of(net).density}}
    return fit(model, Split(x, y, 1.0), CrossEntropy(), plan, folder, hold=hold, **ask, **knobs)


def test_fit_calls_it_at_the_start_and_after_every_step(tmp_path):
    model, steps = network(), []
    masks = Magnitude(0.8).begin(model)
    hold = holding(masks)

    def noted(net, optimizer, step):
        steps.append(step)
        hold(net, optimizer, step)

    outcome = fitted(model, noted, tmp_path)
    assert steps == list(range(16))
    assert outcome.best == masks.density
    assert masks_of(model).digest() == masks.digest()


def test_a_killed_run_that_rewires_goes_on_exactly(tmp_path):
    method = RigL(0.8, every=3)
    whole, ended = network(), network()
    method.begin(whole, 1)
    fitted(whole, method.hold(15, 3), tmp_path / "whole")

    def kill(progress):
        if progress.step == 7:
            raise RuntimeError("killed")

    first = method.begin(ended, 1)
    with pytest.raises(RuntimeError, match="killed"):
        fitted(ended, method.hold(15, 3), tmp_path / "ended", watch=kill)
    resumed = network()
    method.begin(resumed, 1)
    fitted(resumed, method.hold(15, 3), tmp_path / "ended", resume=True)
    assert masks_of(whole).digest() != first.digest()
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
