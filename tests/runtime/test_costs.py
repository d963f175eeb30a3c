from __future__ import annotations

from spikeproof.runtime._costs import measured


def test_costs_are_measured_once_and_are_times():
    costs = measured()
    assert measured() is costs
    for part in (costs.weight, costs.event):
        assert 0 < part < 1e4
    assert 0 <= costs.scan < 1e4
