from __future__ import annotations

import pytest
import torch

from spikeproof.compress import RandomStatic, masks_of, prunable
from spikeproof.compress._random import lots
from tests.compress.descent import descend, network


def test_connections_are_drawn_by_the_seed_alone():
    model, other = network(), network()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    method = RandomStatic(0.9)
    assert method.masks(model, 1).digest() == method.masks(other, 1).digest()
    assert method.masks(model, 1).digest() != method.masks(model, 2).digest()


def test_every_weight_is_as_likely():
    weight = torch.zeros(30, 20)
    share = torch.stack([lots(weight, seed, "a") < 0.3 for seed in range(400)]).double().mean(0)
    assert share.mean() == pytest.approx(0.3, abs=0.01)
    assert share.sub(0.3).abs().max() < 5 * (0.3 * 0.7 / 400) ** 0.5
    assert not torch.equal(lots(weight, 0, "a"), lots(weight, 0, "b"))


def test_they_stay_while_the_network_learns():
    model = network()
    method = RandomStatic(0.9, "erk")
    masks = method.begin(model, 3)
    descend(model, method.hold(20, 1), 20)
    assert masks_of(model).digest() == masks.digest()
    assert {n: m.numel() for n, m in masks.kept.items()} == {
        n: w.numel() for n, w in prunable(model).items()
    }
