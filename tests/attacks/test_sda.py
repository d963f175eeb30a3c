from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import SDA, SEA, Flips
from tests.contracts.event_attack import (
    assert_beats_noise,
    assert_fewest,
    attacked,
    fewest,
    plane,
    recordings,
    small_network,
)


def test_sda_reaches_the_optimum_on_a_plane():
    assert_fewest(SDA(20), binary=True, owed=1.0)


def test_counts_never_fall_below_the_fewest():
    assert_fewest(SDA(20), binary=False, owed=2.0)


def test_reduction_finds_the_fewest_flips_whatever_the_budget():
    threat = Flips(60, binary=True)
    for seed in range(4):
        x, _ = recordings(1, binary=True, seed=seed)
        victim = plane(seed, x, 300)
        found = attacked(SDA(), threat, victim, x, torch.tensor([0]))
        assert threat.size(found.x_adv, x).item() == fewest(victim, x, binary=True)


@pytest.mark.parametrize("binary", [True, False])
def test_sda_beats_one_step(binary):
    assert_beats_noise(SDA(20), SEA(), Flips(5, binary))


def test_trap_09_sda_takes_batches_of_any_size_and_packs_their_trials():
    x, y = recordings(8, binary=True)
    threat = Flips(8, binary=True)
    one = attacked(SDA(5, batch=1), threat, small_network(), x, y)
    many = attacked(SDA(5, batch=1000), threat, small_network(), x, y)
    for name in ("x_adv", "fallen", "at", "forwards", "backwards"):
        assert torch.equal(getattr(one, name), getattr(many, name))
