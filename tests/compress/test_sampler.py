from __future__ import annotations

import pytest
import torch

from spikeproof.compress import TINY, SignSampler, masks_of, prunable
from spikeproof.compress._sampler import drawn, signs, survivors
from tests.compress.descent import descend, network, sgd


def test_signs_are_for_ever_and_the_sum_of_connections_too():
    model = network()
    method = SignSampler(0.8, noise=1.0)
    first = method.begin(model, 1)
    hold, seen = method.hold(30, 1, 1), []

    def watched(net, optimizer, step):
        hold(net, optimizer, step)
        now = masks_of(net)
        assert now.weights == first.weights
        for name, weight in prunable(net).items():
            right = torch.sign(weight) == signs(weight, 1, name)
            assert (right | ~now.kept[name]).all()
        seen.append(now.digest())

    descend(model, watched, 30, sgd(model, momentum=0.0))
    assert len(set(seen)) > 20


def test_noise_has_the_deviation_it_is_given():
    weight = torch.full((200, 100), 100.0)
    kept = torch.rand(200, 100, generator=torch.Generator().manual_seed(0)) < 0.5
    weight *= kept
    positive = signs(weight, 0, "w") > 0
    assert torch.equal(survivors(weight, kept, 2.0, (0, 5, "w")), kept & positive)
    noise = (weight - 100)[kept]
    assert noise.std().item() == pytest.approx(2.0, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.05)
    assert (weight[~kept] == 0).all()


def test_a_connection_of_the_wrong_sign_goes():
    weight = torch.tensor([1.0, -1.0, 1.0, -1.0])
    alive = survivors(weight, torch.tensor([True, True, True, False]), 0.0, (0, 1, "w"))
    right = torch.sign(weight) == signs(weight, 0, "w")
    assert alive.tolist() == (right & torch.tensor([True, True, True, False])).tolist()
    assert 0 < right.sum() < 4, "the test has signs of both kinds"


def test_dormant_ones_come_back_by_the_size_of_their_layer():
    kept = {"a": torch.zeros(10, 30, dtype=torch.bool), "b": torch.zeros(100, dtype=torch.bool)}
    counts = dict.fromkeys(kept, 0)
    for step in range(200):
        new = drawn(kept, 8, 0, step)
        assert sum(int(mask.sum()) for mask in new.values()) == 8
        for name, mask in new.items():
            counts[name] += int(mask.sum())
    assert counts["a"] / 1600 == pytest.approx(0.75, abs=0.04)


def test_a_full_layer_takes_none():
    kept = {"a": torch.ones(10, 30, dtype=torch.bool), "b": torch.zeros(5, dtype=torch.bool)}
    new = drawn(kept, 5, 0, 0)
    assert not new["a"].any()
    assert new["b"].all()
    assert not any(mask.any() for mask in drawn(kept, 0, 0, 0).values())


def test_they_begin_at_almost_nothing():
    model = network()
    method = SignSampler(0.8, noise=5.0)
    masks = method.begin(model, 1)
    descend(model, method.hold(1, 1, 1), 1, sgd(model, momentum=0.0))
    fresh = 0
    for name, weight in prunable(model).items():
        new = masks_of(model).kept[name] & ~masks.kept[name]
        fresh += int(new.sum())
        assert (weight[new].abs() == TINY).all()
    assert fresh > 0
