from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import APGD, L1, L2, Margin, Standing, Victim, margins
from spikeproof.attacks._apgd_l1 import climb_sparsely
from spikeproof.seeding import generator
from tests.contracts.attack import COUNT, samples, small_network


def standing(ball, x, y, model):
    return Standing(Victim(model), x, y, ball, Margin(), torch.arange(len(x)))


def test_it_needs_an_l1_ball():
    x, y = samples()
    with pytest.raises(TypeError, match="no L1 ball"):
        climb_sparsely(standing(L2(1.0), x, y, small_network()), 10)


def test_it_ends_in_the_threats_own_ball_and_higher_than_it_began():
    x, y = samples()
    model, ball = small_network(), L1(1.0)
    s = standing(ball, x, y, model)
    s.x = ball.random(s.clean, s.uniform)
    climb_sparsely(s, 20)
    assert len(s), "nothing left to look at"
    assert (ball.size(s.best, s.clean) <= ball.eps + 1e-5).all()
    assert (s.peak >= margins(model(s.clean), s.y) - 1e-6).float().mean() > 0.9


def test_its_answers_are_sparse_where_the_optimum_is():
    """Against a plane the best L1 move uses as few values as their room allows."""

    class Steep(torch.nn.Module):
        def forward(self, x):
            height = (x.flatten(1) * torch.arange(1.0, 65)).sum(1)
            return torch.stack([-height, torch.full_like(height, -1e6)], 1) / 100

    x = torch.full((1, 1, 8, 8), 0.5)
    s = standing(L1(1.0), x, torch.zeros(1, dtype=torch.int64), Steep())
    APGD(100)(s)
    gain = (s.best - s.clean).flatten(1) @ torch.arange(1.0, 65)
    assert gain.item() > 0.97 * 0.5 * (64 + 63)


def test_it_breaks_more_than_noise_of_the_same_size():
    x, y = samples()
    model, ball = small_network(), L1(3.0)
    s = standing(ball, x, y, model)
    APGD(30)(s)
    broken = COUNT - len(s)
    noisy = ball.project(x + 6 / 64 * torch.rand(x.shape, generator=generator(0, "n")), x)
    assert broken > (model(noisy).argmax(1) != y).sum()
