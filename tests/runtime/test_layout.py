from __future__ import annotations

import numpy as np

from spikeproof.runtime._layout import Map, lanes_of


def test_lanes_hold_the_steps():
    assert [lanes_of(n) for n in (1, 2, 4, 5, 8, 9)] == [1, 4, 4, 8, 8, 12]


def test_a_map_has_zeros_around_its_rows():
    place = Map(at=32, channels=2, high=3, wide=4, lanes=8, pad=1)
    arena = np.zeros(2000, np.float32)
    place.view(arena, 8)[...] = 1
    rows = arena[32 : 32 + 2 * place.plane].reshape(2, -1)
    inside = rows[:, : 5 * 5 * 8 + 8].reshape(2, -1, 8)[..., 0]
    grid = inside[0, :25].reshape(5, 5)
    assert grid.tolist() == [[0] * 5, *([[0, 1, 1, 1, 1]] * 3), [0] * 5]
    assert arena.sum() == 2 * 3 * 4 * 8
