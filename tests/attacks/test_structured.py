from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import CornerEvents, DashEvents, Flips, FrameEvents
from tests.contracts.event_attack import attacked


class Watcher(nn.Module):
    """Errs as soon as all the entries that it watches hold ``level`` events."""

    def __init__(self, watched, level=1):
        super().__init__()
        self.register_buffer("watched", watched)
        self.level = level

    def forward(self, x):
        active = ((x >= self.level) | ~self.watched).flatten(1).all(1).float()
        return torch.stack([1 - active, active], 1)


def watched(*places, shape=(4, 2, 5, 6)):
    mask = torch.zeros(shape, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


CASES = [
    (FrameEvents(1), watched((..., 0, slice(None)), (..., slice(None), 5)), 4 * 2 * 18),
    (CornerEvents(), watched((..., 4, slice(3, 6)), (..., slice(2, 5), 5)), 4 * 2 * 5),
    (DashEvents(), watched((0, ..., 2, 0), (1, ..., 2, 1), (3, ..., 2, 3)), 4 * 2),
    (DashEvents(), watched((0, ..., 2, slice(0, 3)), (2, ..., 2, 2)), 4 * 2 * 3),
]


@pytest.mark.parametrize(("search", "mask", "events"), CASES)
def test_the_smallest_pattern_that_covers_what_is_watched_fools(search, mask, events):
    x, y = torch.zeros(3, 4, 2, 5, 6), torch.zeros(3, dtype=torch.int64)
    x[1, :, :, 2, 0] = 1
    victim = Watcher(mask)
    for binary in (True, False):
        found = attacked(search, Flips(events, binary), victim, x, y)
        assert found.fallen.all()
        assert int((found.x_adv[0] - x[0]).sum()) == events
        assert not attacked(search, Flips(events - 1, binary), victim, x[:1], y[:1]).fallen.any()


def test_a_dash_moves_by_one_pixel_in_every_step():
    x, y = torch.zeros(1, 4, 2, 5, 6), torch.zeros(1, dtype=torch.int64)
    victim = Watcher(watched((0, ..., 2, 0)))
    found = attacked(DashEvents(1), Flips(100, binary=True), victim, x, y)
    steps, _, rows, columns = found.x_adv[0].nonzero(as_tuple=True)
    assert torch.equal(columns, steps)
    assert rows.unique().tolist() == [2]


def test_active_entries_of_binary_frames_stay_and_counts_rise():
    x, y = torch.ones(1, 4, 2, 5, 6), torch.zeros(1, dtype=torch.int64)
    victim = Watcher(watched((0, 0, 0, 0)), level=2)
    assert not attacked(FrameEvents(1), Flips(1000, binary=True), victim, x, y).fallen.any()
    found = attacked(FrameEvents(1), Flips(1000, binary=False), victim, x, y)
    assert found.fallen.all()
    assert found.x_adv[0, 0, 0].tolist() == [[2.0] * 6, *[[2, 1, 1, 1, 1, 2]] * 3, [2.0] * 6]
