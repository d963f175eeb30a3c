from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.data._framing import by_count, by_time, resized
from spikeproof.data._recordings import Events
from spikeproof.errors import Refusal

HEIGHT, WIDTH = 3, 4
FRAMINGS = pytest.mark.parametrize("framing", [by_time, by_count])


def recording(rows):
    t, x, y, p = np.array(sorted(rows), np.int64).reshape(-1, 4).T
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), HEIGHT, WIDTH)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 50), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1)
    ),
    max_size=40,
)


def slow(events, slices, steps):
    frames = np.zeros((steps, 2, HEIGHT, WIDTH), int)
    for k, part in enumerate(slices):
        frames[part, events.p[k], events.y[k], events.x[k]] += 1
    return frames


@given(ROWS, st.integers(1, 9))
def test_slices_of_time(rows, steps):
    events = recording(rows)
    t = events.t.tolist()
    slices = [(now - t[0]) * steps // (t[-1] - t[0] + 1) for now in t]
    frames = by_time(events, steps)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, slow(events, slices, steps))


@given(ROWS, st.integers(1, 9))
def test_slices_of_number(rows, steps):
    events = recording(rows)
    slices = [
        k for k, part in enumerate(np.array_split(np.arange(len(events)), steps)) for _ in part
    ]
    np.testing.assert_array_equal(by_count(events, steps), slow(events, slices, steps))


def test_a_frame_by_hand():
    events = recording([(10, 0, 0, 1), (11, 3, 2, 0), (20, 3, 2, 0), (29, 1, 0, 1)])
    frames = by_time(events, 2)
    assert frames[0, 1, 0, 0] == frames[0, 0, 2, 3] == 1
    assert frames[1, 0, 2, 3] == frames[1, 1, 0, 1] == 1
    assert frames.sum() == 4


@FRAMINGS
@given(rows=ROWS, later=ROWS)
def test_what_comes_later_changes_no_earlier_order(framing, rows, later):
    events = recording(rows)
    frames = framing(events, 5).astype(int)
    totals = frames.sum(axis=(1, 2, 3))
    # The events of slice k are exactly those after the ones of the slices before it.
    ends = np.cumsum(totals)
    for k, end in enumerate(ends):
        np.testing.assert_array_equal(frames[: k + 1].sum(0), slow(events, [0] * end, 1)[0])


@FRAMINGS
def test_an_empty_recording_is_dark(framing):
    frames = framing(recording([]), 3)
    assert frames.shape == (3, 2, HEIGHT, WIDTH)
    assert not frames.any()


@FRAMINGS
def test_counts_stop(framing):
    events = recording([(k, 1, 2, 1) for k in range(600)])
    assert framing(events, 2)[:, 1, 2, 1].tolist() == [255, 255]
    assert framing(events, 3)[:, 1, 2, 1].tolist() == [200, 200, 200]
    assert framing(events, 2, binary=True).sum() == 2


@FRAMINGS
@pytest.mark.parametrize("steps", [0, -1])
def test_no_slices_are_refused(framing, steps):
    with pytest.raises(Refusal, match=f"steps is {steps}"):
        framing(recording([]), steps)


@given(ROWS, st.integers(1, HEIGHT), st.integers(1, WIDTH))
def test_a_coarser_sensor_keeps_every_event(rows, height, width):
    events = recording(rows)
    small = resized(events, height, width)
    assert (small.height, small.width) == (height, width)
    assert small.x.tolist() == [x * width // WIDTH for x in events.x.tolist()]
    assert small.y.tolist() == [y * height // HEIGHT for y in events.y.tolist()]
    assert small.t is events.t
    assert small.p is events.p


def test_every_row_of_the_coarser_sensor_is_hit():
    rows = np.arange(128, dtype=np.uint16)
    diagonal = Events(np.arange(128), rows, rows, np.zeros(128, np.uint8), 128, 128)
    small = resized(diagonal, 48, 48)
    assert np.unique(small.y).tolist() == list(range(48))


@pytest.mark.parametrize("size", [(0, 1), (4, 1), (1, 5)])
def test_a_finer_sensor_is_refused(size):
    with pytest.raises(Refusal, match="at most 3 x 4"):
        resized(recording([]), *size)
