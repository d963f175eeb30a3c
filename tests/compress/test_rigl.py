from __future__ import annotations

import math

import pytest
import torch

from spikeproof.compress import TINY, RigL, masks_of, prunable
from spikeproof.compress._rigl import rewired
from spikeproof.errors import Refusal
from tests.compress.descent import descend, network, sgd


def test_the_smallest_make_room_for_the_steepest():
    weight = torch.tensor([[3.0, -0.1, 0.2, 0.0, 0.0, 0.0]], requires_grad=True)
    weight.grad = torch.tensor([[9.0, 0.5, 0.1, 0.4, -2.0, 0.3]])
    kept = torch.tensor([[True, True, True, False, False, False]])
    new = rewired(weight, kept, 0.34)
    assert new.tolist() == [[True, False, True, False, True, False]]
    assert weight[0, 4].item() == pytest.approx(TINY), "downhill, as the gradient is negative"


def test_what_was_dropped_may_come_back_and_keeps_its_weight():
    weight = torch.tensor([[3.0, -0.1, 0.0]], requires_grad=True)
    weight.grad = torch.tensor([[0.0, 5.0, 1.0]])
    kept = torch.tensor([[True, True, False]])
    assert rewired(weight, kept, 0.5).tolist() == kept.tolist()
    assert weight[0, 1].item() == pytest.approx(-0.1)


def test_it_rewires_on_time_less_and_less_and_keeps_every_count():
    model = network()
    method = RigL(0.8, every=5, until=0.8)
    first = method.begin(model, 1)
    hold, seen = method.hold(50, 1), []

    def watched(net, optimizer, step):
        before = masks_of(net).kept if not seen else seen[-1]
        hold(net, optimizer, step)
        now = masks_of(net)
        assert now.counts == first.counts
        moved = {n: int((m & ~before[n]).sum()) for n, m in now.kept.items()}
        if step % 5 or not 0 < step < 40:
            assert sum(moved.values()) == 0
        else:
            share = 0.15 * (1 + math.cos(math.pi * step / 40))
            assert all(n <= int(share * first.counts[name]) for name, n in moved.items())
            assert sum(moved.values()) > 0 or step > 25
        seen.append(now.kept)

    optimizer = descend(model, watched, 50)
    for name, weight in prunable(model).items():
        assert (optimizer.state[weight]["momentum_buffer"][~seen[-1][name]] == 0).all()


def test_a_grown_weight_has_no_past():
    """Momentum that the dense gradient left behind would throw it away at once."""
    model = network()
    method = RigL(0.8, every=5)
    method.begin(model, 1)
    hold = method.hold(50, 1)
    before = masks_of(model)
    optimizer = descend(model, hold, 5)
    grown = 0
    for name, weight in prunable(model).items():
        new = masks_of(model).kept[name] & ~before.kept[name]
        grown += int(new.sum())
        assert (weight[new].abs() == TINY).all()
        assert (optimizer.state[weight]["momentum_buffer"][new] == 0).all()
    assert grown > 0


def test_weights_without_a_gradient_stay_where_they_are():
    model = network()
    method = RigL(0.8, every=1)
    masks = method.begin(model, 1)
    frozen = next(iter(prunable(model)))
    prunable(model)[frozen].requires_grad_(False)
    descend(model, method.hold(5, 1), 3, sgd(model))
    assert torch.equal(masks_of(model).kept[frozen], masks.kept[frozen])
    assert masks_of(model).digest() != masks.digest()


def test_impossible_numbers_are_refused():
    with pytest.raises(Refusal, match="share of rigl"):
        RigL(share=1.5)
