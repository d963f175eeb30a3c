from __future__ import annotations

import pytest

from spikeproof.attacks import Flips, RandomSearch, SpikeFool
from tests.contracts.event_attack import assert_beats_noise, assert_fewest


def test_the_tangent_plane_of_a_plane_is_the_plane():
    assert_fewest(SpikeFool(distance=1.0), binary=True, owed=1.1)


def test_counts_never_fall_below_the_fewest():
    assert_fewest(SpikeFool(), binary=False, owed=float("inf"))


@pytest.mark.parametrize("binary", [True, False])
def test_spikefool_beats_noise(binary):
    assert_beats_noise(SpikeFool(), RandomSearch(20), Flips(6, binary))
