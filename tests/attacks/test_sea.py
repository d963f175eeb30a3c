from __future__ import annotations

import pytest

from spikeproof.attacks import SEA, Flips, RandomSearch
from tests.contracts.event_attack import assert_beats_noise, assert_fewest


def test_one_step_is_the_optimum_on_a_plane():
    assert_fewest(SEA(), binary=True, owed=1.0)


def test_counts_never_fall_below_the_fewest():
    assert_fewest(SEA(), binary=False, owed=float("inf"))


@pytest.mark.parametrize("binary", [True, False])
def test_sea_beats_noise(binary):
    assert_beats_noise(SEA(), RandomSearch(20), Flips(6, binary))
