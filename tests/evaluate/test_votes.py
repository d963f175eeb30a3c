from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.evaluate._votes import ROWS, Voters, check_draws
from spikeproof.spiking import Encode, Poisson, drawing_from


class Sign(nn.Module):
    """Class 1 where the mean is positive; it counts what it is asked."""

    asked = 0

    def forward(self, x):
        self.asked += len(x)
        mean = x.flatten(1).mean(1)
        return torch.stack([-mean, mean], 1)


def uniform(noise):
    return torch.rand((ROWS, 1), generator=noise) - 0.25


def test_the_chosen_class_is_counted_in_fresh_draws():
    net = Sign()
    poll = Voters(net).poll(uniform, (150, 2050), 0.001, 5)
    assert poll.answer == 1
    assert poll.hits == pytest.approx(0.75 * 2050, abs=5 * (0.75 * 0.25 * 2050) ** 0.5)
    assert 0.6 < poll.lower < poll.hits / 2050
    assert net.asked == 200 + 2100, "whole passes"


def test_a_vote_is_decided_by_its_seed():
    voters = Voters(Sign())
    one, same, other = (voters.poll(uniform, (100, 300), 0.01, seed) for seed in (1, 1, 2))
    assert one == same
    assert one.hits != other.hits


def test_the_first_draws_of_more_are_the_same():
    hits = [Voters(Sign()).poll(uniform, (1, n), 0.01, 3).hits for n in (250, 300)]
    assert 0 <= hits[1] - hits[0] <= 50


class Silent(nn.Module):
    """Class 0 where no spike comes, which has the probability 0.512 at a pixel of 0.2."""

    def __init__(self):
        super().__init__()
        self.encode = Encode(Poisson(), 3)

    def forward(self, x):
        fired = self.encode(x).unflatten(0, (-1, len(x))).flatten(2).sum((0, 2))
        return torch.stack([0.5 - fired, fired - 0.5], 1)


def test_a_network_that_draws_noise_draws_it_anew_for_every_vote():
    noisy = drawing_from(Silent(), torch.Generator())
    x = torch.full((ROWS, 1, 1, 1), 0.2)
    polls = [Voters(noisy).poll(lambda _: x, (1, 3000), 0.01, seed) for seed in (0, 0, 1)]
    assert polls[0] == polls[1]
    assert polls[0].hits != polls[2].hits
    shares = [poll.hits / 3000 for poll in polls]
    assert all(min(abs(s - 0.512), abs(s - 0.488)) < 0.04 for s in shares)


@pytest.mark.parametrize("case", [(0, 10, 0.1), (10, 0, 0.1), (10, 10, 0.0), (10, 10, 0.5)])
def test_draws_that_say_nothing_are_refused(case):
    with pytest.raises(Refusal):
        check_draws(*case)
