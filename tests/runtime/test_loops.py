from __future__ import annotations

import numpy as np
import pytest

from spikeproof.runtime._loops import BLOCKS, _runs

PLACES = 400


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_adds_the_same_runs(block):
    rng = np.random.default_rng(block)
    total = block * 8 * 2
    arena = rng.normal(0, 1, PLACES * 3).astype(np.float32)
    offsets, values = rng.integers(0, 300, 9).astype(np.int32), rng.normal(0, 1, 9)
    before = arena.copy()
    wanted = arena.astype(np.float64)
    wanted[:total] = 0.25
    for k in range(2, 8):
        begin = 500 + int(offsets[k])
        wanted[:total] += np.float32(values[k]) * before[begin : begin + total]
    _runs(arena, 0, np.float32(0.25), 500, offsets, values.astype(np.float32), 2, 8, total, block)
    np.testing.assert_allclose(arena[:total], wanted[:total], rtol=1e-5, atol=1e-5)
    assert np.array_equal(arena[total:], before[total:])
