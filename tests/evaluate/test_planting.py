"""Defects planted in whatever network is at hand, at a budget where there is something to hide."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import L0, Flips, Linf, Threat
from spikeproof.evaluate import PLANTED, NeedleSurrogate, StateNotReset
from spikeproof.evaluate._doubles import fitting
from spikeproof.evaluate._planting import _high, planted_masking


def test_what_can_be_planted_depends_on_the_network(net):
    assert fitting(net) == PLANTED
    names = {defect.make for defect in fitting(nn.Flatten())}
    assert len(names) == 5
    assert names.isdisjoint((NeedleSurrogate, StateNotReset))


@pytest.mark.slow
@pytest.mark.parametrize("threat", [Linf(0.01), L0(3.0)], ids=str)
def test_all_that_is_planted_is_caught_at_any_budget(net, handwriting, threat: Threat):
    x, y = handwriting.test.batch(torch.arange(32))
    check = planted_masking(net, x, y, threat, 0)
    assert (check.verdict, check.value) == ("pass", 0)
    assert check.detail.startswith("all 7 were caught (16 samples, ")


def test_who_cannot_be_broken_or_is_always_wrong_carries_nothing(linear, points):
    few = planted_masking(linear, points.x, 1 - points.y, Linf(0.1), 0)
    assert few.verdict == "na"
    assert "samples are right" in few.detail

    class Stubborn(nn.Module):
        def forward(self, x):
            return torch.stack([torch.ones(len(x)), 0 * x.flatten(1).sum(1)], 1)

    zeros = torch.zeros(len(points.x), dtype=torch.int64)
    found = planted_masking(Stubborn(), points.x, zeros, Linf(0.1), 0)
    assert found.verdict == "na"
    assert "hides its errors by itself" in found.detail


def test_counts_of_events_have_no_end_but_the_largest_seen(points):
    assert _high(Flips(3, binary=False), 8 * points.x) == float((8 * points.x).max()) > 1
    assert _high(Flips(3, binary=True), points.x) == 1
    assert _high(Linf(0.1, high=2.0), points.x) == 2
