from __future__ import annotations

import pytest

from spikeproof.attacks import Flips, Gumbel, RandomSearch
from tests.contracts.event_attack import assert_beats_noise, assert_fewest


def test_gumbel_nears_the_optimum_on_a_plane():
    assert_fewest(Gumbel(), binary=True, owed=1.1)


@pytest.mark.parametrize("binary", [True, False])
def test_gumbel_beats_noise(binary):
    assert_beats_noise(Gumbel(20), RandomSearch(20), Flips(6, binary))
