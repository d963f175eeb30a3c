from __future__ import annotations

import math

import pytest
import torch

from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.spiking import LIF
from spikeproof.training import MPDSGR, CrossEntropy, penalised
from spikeproof.training._membranes import distances
from tests.training.robust import images


class Shifted:
    """The penalty, and what it saw."""

    neurons = True

    def __init__(self, penalty):
        self.penalty = penalty

    def __call__(self, seen):
        self.distances = [d.detach() for d in distances(seen, "test")]
        self.value = self.penalty(seen)
        return self.value


def test_by_hand():
    setting = Setting(channels=1, size=8, classes=3, T=3, neuron=LIF(theta=0.3))
    model, (x, y) = build(CNN((4,), 8), setting).double(), images()
    watched = Shifted(MPDSGR(2.0, 0.4))
    penalised(CrossEntropy(), [watched])(model, x, y)
    shares = []
    for distance in watched.distances:
        values = distance.flatten().tolist()
        mean = sum(values) / len(values)
        sigma = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        cdf = [(1 + math.erf((mean + end) / sigma / math.sqrt(2))) / 2 for end in (0.4, -0.4)]
        shares.append(cdf[0] - cdf[1])
    assert len(shares) == 2
    assert watched.value.item() == pytest.approx(2 * sum(shares) / 2)


def test_it_is_a_share_and_silence_has_a_gradient_too():
    """Membranes that do not vary at all must not make NaN."""
    setting = Setting(channels=1, size=8, classes=3, T=3, neuron=LIF())
    model, (x, y) = build(CNN((4,), 8), setting).double(), images()
    whole = Shifted(MPDSGR(1.0, 100.0))
    penalised(CrossEntropy(), [whole])(model, x, y)
    assert whole.value.item() == pytest.approx(1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    penalised(CrossEntropy(), [MPDSGR()])(model, x, y).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("knobs", [{"lamb": -1}, {"gamma": 0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refusal):
        MPDSGR(**knobs)
