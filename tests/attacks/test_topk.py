from __future__ import annotations

import pytest

from spikeproof.attacks import SEA, Flips, TopK
from tests.contracts.event_attack import assert_beats_noise, assert_fewest


@pytest.mark.parametrize(("binary", "owed"), [(True, 1.0), (False, 1.1)])
def test_topk_reaches_the_optimum_on_a_plane(binary, owed):
    assert_fewest(TopK(20), binary=binary, owed=owed)


@pytest.mark.parametrize("binary", [True, False])
def test_iterations_beat_one_step(binary):
    assert_beats_noise(TopK(20), SEA(), Flips(5, binary))
