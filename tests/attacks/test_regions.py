from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import JUDGED, L0, L1, L2, Flips, Linf, RelaxedLinf, Retiming, region
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import Changes

THREATS = [
    Linf(0.1),
    RelaxedLinf(0.5, high=3.0),
    L1(0.7),
    L0(3.0),
    Flips(4),
    Flips(4, binary=False),
]


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_region_holds_whatever_its_threat_admits(threat):
    draw = generator(0, "region")
    x = torch.rand((8, 2, 1, 3, 3), generator=draw)
    if isinstance(threat, Flips):
        x = x.round()
    found = region(x.double(), threat, JUDGED)
    box = found.interval if isinstance(found, Changes) else found
    for _ in range(20):
        for made in (threat.random, threat.corner):
            other = made(x, lambda shape: torch.rand((8, *shape), generator=draw))
            assert bool(threat.admits(other, x).all())
            assert bool(((other >= box.lower) & (other <= box.upper)).all())
            if isinstance(found, Changes):
                moved = (other.double() - x).flatten(1)
                spent = (moved != 0).sum(1) if found.norm == "l0" else moved.abs().sum(1)
                assert bool((spent <= found.budget).all())


def test_what_a_judge_forgives_is_within_the_slack():
    x = torch.full((1, 1), 0.95)
    threat = Linf(0.1)
    other = x - 0.1000009
    assert bool(threat.admits(other, x).all())
    assert other.item() < region(x.double(), threat).lower.item()
    assert other.item() > region(x.double(), threat, JUDGED).lower.item()
    assert region(x, threat).upper.item() == 1


@pytest.mark.parametrize("threat", [L2(0.5), Retiming(1)], ids=str)
def test_other_threats_are_refused(threat):
    with pytest.raises(Refusal, match="bounds are known of"):
        region(torch.zeros(1, 2), threat)
