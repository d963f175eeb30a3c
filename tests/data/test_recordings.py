from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.data._recordings import Events, read_nmnist, write_nmnist
from spikeproof.errors import Refusal


def events(t, x, y, p, height=34, width=34):
    return Events(
        np.array(t, np.int64),
        np.array(x, np.uint16),
        np.array(y, np.uint16),
        np.array(p, np.uint8),
        height,
        width,
    )


def record(x, y, p, t):
    return (x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big")


def test_a_recording_may_be_empty():
    assert len(events([], [], [], [])) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"t": np.array([0, 1, 2], np.int64)}, "same length"),
        ({"t": np.array([0.0, 1.0])}, "t is int64"),
        ({"x": np.array([0, 1], np.int64)}, "x is uint16"),
        ({"y": np.zeros((2, 1), np.uint16)}, "one axis"),
        ({"x": np.array([0, 34], np.uint16)}, "x reaches 34; it must be below 34"),
        ({"y": np.array([7, 0], np.uint16)}, "y reaches 7; it must be below 5"),
        ({"p": np.array([0, 2], np.uint8)}, "p reaches 2"),
        ({"t": np.array([5, 3], np.int64)}, "event 1 is 2 us before"),
        ({"t": np.array([-1, 3], np.int64)}, "from -1 to 3"),
        ({"t": np.array([0, 2**53], np.int64)}, "to 9007199254740992"),
        ({"height": 0}, "height is 0"),
        ({"width": 2**15 + 1}, "width is 32769"),
    ],
)
def test_a_recording_checks_itself(change, says):
    good = events([0, 1], [33, 0], [0, 4], [0, 1], height=5)
    with pytest.raises(Refusal, match=says):
        replace(good, **change)


def test_bytes_of_a_record(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(record(3, 7, 1, 0x123456) + record(33, 0, 0, 0x7FFFFF))
    found = read_nmnist(path)
    assert found.t.tolist() == [0x123456, 0x7FFFFF]
    assert (found.x.tolist(), found.y.tolist(), found.p.tolist()) == ([3, 33], [7, 0], [1, 0])
    assert (found.height, found.width) == (34, 34)


def test_row_240_moves_the_clock_and_is_no_event(tmp_path):
    path = tmp_path / "a.bin"
    wrap = record(0, 240, 0, 0)
    path.write_bytes(
        record(1, 1, 1, 8000) + wrap + record(2, 2, 0, 10) + wrap + wrap + record(3, 3, 1, 0)
    )
    found = read_nmnist(path)
    assert found.t.tolist() == [8000, 8192 + 10, 3 * 8192]
    assert found.x.tolist() == [1, 2, 3]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**23 - 1), st.integers(0, 255), st.integers(0, 239), st.integers(0, 1)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    t, x, y, p = zip(*sorted(rows), strict=True)
    path = tmp_path_factory.getbasetemp() / "round.bin"
    write_nmnist(path, events(t, x, y, p, height=240, width=256))
    assert path.read_bytes() == b"".join(record(*row) for row in zip(x, y, p, t, strict=True))
    found = read_nmnist(path, 240, 256)
    assert [a.tolist() for a in (found.t, found.x, found.y, found.p)] == [
        list(a) for a in (t, x, y, p)
    ]


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (record(1, 1, 1, 5)[:4], "4 bytes; an event has 5"),
        (b"", "empty"),
        (record(0, 240, 0, 0), "no events"),
        (record(34, 1, 1, 5), "x reaches 34"),
        (record(1, 34, 1, 5), "y reaches 34"),
        (record(1, 1, 1, 5) + record(1, 1, 1, 4), "1 us before"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, blob, says):
    path = tmp_path / "a.bin"
    path.write_bytes(blob)
    with pytest.raises(Refusal, match=rf"a\.bin.*{says}"):
        read_nmnist(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Refusal, match="missing"):
        read_nmnist(tmp_path / "none.bin")


@pytest.mark.parametrize(
    ("recording", "says"),
    [
        (events([], [], [], []), "empty"),
        (events([2**23], [0], [0], [0]), "clock ends at 8388607"),
        (events([0], [0], [0], [0], height=241), "at most 240 rows"),
        (events([0], [0], [0], [0], width=257), "256 columns"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, recording, says):
    with pytest.raises(Refusal, match=says):
        write_nmnist(tmp_path / "a.bin", recording)
    assert not list(tmp_path.iterdir())


def test_the_published_recordings(real_data, tmp_path):
    files = sorted((real_data / "n-mnist").glob("*/*/*.bin"))
    assert len(files) == 1100
    assert {file.parent.name for file in files} == set("0123456789")
    recordings = [read_nmnist(file) for file in files]
    ends = np.array([found.t[-1] for found in recordings])
    # Three saccades of 100 ms; the published files run to a little over 300 ms.
    assert abs(ends.mean() - 300_000) < 10_000
    assert ends.min() > 290_000
    assert ends.max() < 340_000
    assert sum(len(found) for found in recordings) == 4_518_827
    assert max(found.x.max() for found in recordings) == 33
    assert max(found.y.max() for found in recordings) == 33
    on = sum(int(found.p.sum()) for found in recordings) / 4_518_827
    assert 0.45 < on < 0.55
    for file, found in zip(files[::50], recordings[::50], strict=True):
        write_nmnist(tmp_path / file.name, found)
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
