from __future__ import annotations

import torch

from spikeproof.attacks import L0, L1, Attack, Linf, RandomSearch, run
from spikeproof.attacks._noise import uniform
from tests.contracts.attack import Plane


def test_it_finds_what_anything_finds():
    x = torch.full((5, 1, 8, 8), 0.5)
    y = Plane()(x + 1e-6).argmax(1)
    out = run(Attack(RandomSearch(30)), Plane(), x, y, Linf(0.1), ids=torch.arange(5))
    assert out.fallen.all()
    assert (out.backwards == 0).all()


def test_the_second_half_lies_at_the_corners():
    x = torch.full((40, 1, 8, 8), 0.5)
    seeds = torch.arange(40)

    def noise(shape):
        return uniform(seeds, 3, shape)

    corner = (Linf(0.1).corner(x, noise) - x).abs()
    assert torch.allclose(corner, torch.tensor(0.1))
    change = (L1(0.3).corner(x, noise) - x).flatten(1)
    assert ((change != 0).sum(1) == 1).all(), "one value has room for it all"
    assert len(set(change.abs().argmax(1).tolist())) > 20, "always the same value"
    binary = (torch.arange(64) % 2).float().expand(40, 64).reshape(x.shape)
    moved = L0(5.0).corner(binary, noise)
    assert ((moved == 0) | (moved == 1)).all()
    places = (moved != binary).flatten(1).float().mean(0)
    assert (places > 0).sum() > 40, "always the same values"
