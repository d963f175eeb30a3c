from __future__ import annotations

import numpy as np
import pytest

from spikeproof.compress import lower
from spikeproof.runtime._program import Costs, compiled
from tests.runtime.networks import NETWORKS, SIDE, made


@pytest.mark.parametrize("name", NETWORKS)
def test_no_two_maps_share_a_place(name):
    net, _ = made(name, 4)
    graph = lower(net, (3, SIDE, SIDE))
    program = compiled(graph, 4, 0, Costs())
    taken = np.zeros(program.floats, np.int64)
    for at in {m.at: m for m in program.maps.values()}.values():
        taken[at.at : at.at + at.channels * at.plane] += 1
    assert taken.max() == 1
    assert len(program.values) == 2 * graph.kept  # by output, and by event
    assert program.offsets.dtype == np.int32
