from __future__ import annotations

import itertools
from statistics import NormalDist

import pytest
import torch
from scipy.stats import binom
from torch import nn

from spikeproof.evaluate import Smoothing
from spikeproof.evaluate._smoothing import smoothed_polls
from spikeproof.seeding import generator
from spikeproof.statistics import clopper_pearson


class Plane(nn.Module):
    """Class 1 on the positive side of a plane at a known distance."""

    def forward(self, x):
        height = (x.flatten(1) @ torch.tensor([0.6, 0.8, 0.0, 0.0])) - 1.0
        return torch.stack([-height, height], 1)


def at(distance: float, count: int) -> torch.Tensor:
    """Points at this distance from the plane, anywhere along it."""
    along = torch.rand((count, 2), generator=generator(0, "along"))
    normal = torch.tensor([0.6, 0.8]) * (1 + distance)
    return torch.cat([normal.expand(count, 2), along], 1).reshape(count, 1, 2, 2)


def test_a_planes_radius_is_never_more_than_its_distance_but_by_chance():
    method, distance, count = Smoothing(sigma=0.5, n0=10, n=100, alpha=0.2), 0.4, 400
    share = NormalDist().cdf(distance / method.sigma)
    polls = smoothed_polls(Plane(), at(distance, count), tuple(range(count)), method)
    radii = [method.radius(poll.lower) for poll in polls if poll.answer == 1]
    assert len(radii) > 0.9 * count
    wrong = sum(radius > distance for radius in radii)
    # exactly how often that many of 100 hits or more are drawn from this share
    odds = [binom.pmf(k, 100, share) for k in range(101) if clopper_pearson(k, 100, 0.2) > share]
    assert 0.1 < sum(odds) <= 0.2
    assert abs(wrong - sum(odds) * len(radii)) < 4 * (sum(odds) * len(radii)) ** 0.5
    hits = sum(poll.hits for poll in polls if poll.answer == 1)
    assert hits / (100 * len(radii)) == pytest.approx(share, abs=0.01)


def test_with_many_draws_the_radius_of_a_plane_is_its_distance():
    method = Smoothing(sigma=0.5, n=200_000)
    (poll,) = smoothed_polls(Plane(), at(0.6, 1), (0,), method)
    assert poll.answer == 1
    assert 0.58 < method.radius(poll.lower) < 0.6


def test_the_radius_grows_with_the_share_and_there_is_none_without_a_majority():
    method = Smoothing(sigma=0.3)
    radii = [method.radius(share / 100) for share in range(100)]
    assert radii == sorted(radii)
    assert not any(radii[:51])
    assert all(b > a for a, b in itertools.pairwise(radii[50:]))
    assert method.radius(0.9) == pytest.approx(0.3 * 1.2815515655446004)


def test_a_sample_has_its_own_noise_whatever_stands_beside_it():
    method, x = Smoothing(n=300), at(0.1, 5)
    together = smoothed_polls(Plane(), x, (7, 8, 9, 10, 11), method, seed=3)
    alone = [smoothed_polls(Plane(), x[i : i + 1], (7 + i,), method, seed=3)[0] for i in (4, 0, 2)]
    assert alone == [together[4], together[0], together[2]]
    assert smoothed_polls(Plane(), x, (7, 8, 9, 10, 11), method, seed=4) != together
