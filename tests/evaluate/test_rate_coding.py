from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.evaluate import RateCoding
from spikeproof.evaluate._rate_coding import rate_coder, rate_coding_polls
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import Encode, Poisson

METHOD = RateCoding()


def share(event, x, steps):
    """The exact probability that independent spikes of pixels x make a train of the event."""
    total = 0.0
    for train, inside in zip(itertools.product((0, 1), repeat=steps * len(x)), event, strict=True):
        odds = 1.0
        for place, spike in enumerate(train):
            p = x[place % len(x)]
            odds *= p if spike else 1 - p
        total += odds * inside
    return total


@pytest.mark.parametrize(("steps", "pixels"), [(1, 2), (2, 2), (4, 1), (1, 4), (3, 1)])
def test_no_input_within_the_radius_loses_the_majority(steps, pixels):
    draw = generator(0, "events", steps, pixels)
    trains = 2 ** (steps * pixels)
    grid = [place / 10 for place in range(11)]
    tried = 0
    for _ in range(25):
        event = (torch.rand(trains, generator=draw) < 0.7).tolist()
        x = [grid[k] for k in torch.randint(11, (pixels,), generator=draw).tolist()]
        radius = METHOD.radius(share(event, x, steps), steps, pixels)
        for other in itertools.product(grid, repeat=pixels):
            if sum(abs(a - b) for a, b in zip(x, other, strict=True)) < radius:
                assert share(event, other, steps) > 0.5
                tried += 1
    assert tried > 30


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_radius_cannot_be_larger(steps):
    """A black pixel that answers by silence: whatever it may move, the majority just stands."""
    silence = [train == (0,) * steps for train in itertools.product((0, 1), repeat=steps)]
    assert share(silence, [0.0], steps) == 1
    radius = METHOD.radius(1.0, steps, 0)
    assert share(silence, [radius], steps) == pytest.approx(0.5)
    if steps > 1:  # the radius of one step, p - 1/2, is too large for more
        assert share(silence, [0.5], steps) < 0.5


def test_the_radius_of_one_step_is_that_of_the_paper_and_shrinks_with_more():
    assert METHOD.radius(0.9, 1, 0) == pytest.approx(0.4)
    radii = [METHOD.radius(0.9, steps, 64) for steps in range(1, 9)]
    assert radii == sorted(radii, reverse=True)
    assert METHOD.radius(0.5, 4, 64) == 0
    shares = [METHOD.radius(p / 100, 4, 64) for p in range(50, 101)]
    assert shares == sorted(shares)


class Silent(nn.Module):
    """Class 0 where no spike comes."""

    def __init__(self, steps):
        super().__init__()
        self.encode = Encode(Poisson(), steps)

    def forward(self, x):
        fired = self.encode(x).unflatten(0, (-1, len(x))).flatten(2).sum((0, 2))
        return torch.stack([0.5 - fired, fired - 0.5], 1)


def test_votes_are_drawn_from_the_spikes_of_the_pixels():
    x = torch.tensor([0.05, 0.3]).reshape(2, 1, 1, 1)
    method = RateCoding(n=5000)
    polls = rate_coding_polls(Silent(3), x, (0, 1), method)
    assert [poll.answer for poll in polls] == [0, 1]
    assert polls[0].hits / 5000 == pytest.approx(0.95**3, abs=0.02)
    assert polls[1].hits / 5000 == pytest.approx(1 - 0.7**3, abs=0.03)
    assert rate_coding_polls(Silent(3), x[1:], (1,), method) == polls[1:]


def test_another_encoder_is_refused_by_its_name():
    net = build(MLP((4,)), Setting(channels=1, size=2, classes=2, T=2))
    with pytest.raises(Refusal, match="Direct"):
        rate_coder(net)
    with pytest.raises(Refusal, match="none of ours"):
        rate_coder(nn.Flatten())
