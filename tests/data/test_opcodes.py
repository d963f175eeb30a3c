from __future__ import annotations

import contextlib
import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from spikeproof.data._opcodes import read_plain
from spikeproof.errors import Refusal
from tests.oracles.malformed_data import pickled

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(min_size=1, max_size=300),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(value=st.dictionaries(st.text(), PLAIN), protocol=st.integers(2, 5))
def test_plain_values_come_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.mktemp("plain") / "file"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain(path) == value


@given(
    array=st.sampled_from(["u1", "<i4", ">i2", "i8", "f4", ">f8", "b1"]).flatmap(
        lambda dtype: arrays(dtype, array_shapes(max_dims=3, max_side=4))
    ),
    order=st.sampled_from("CF"),
    protocol=st.integers(2, 5),
)
def test_arrays_come_back_to_the_bit(tmp_path_factory, array, order, protocol):
    path = tmp_path_factory.mktemp("arrays") / "file"
    path.write_bytes(pickle.dumps({"a": np.array(array, order=order), "b": array}, protocol))
    for found in read_plain(path).values():
        assert isinstance(found, np.ndarray)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


def test_numbers_of_numpy_come_back(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"labels": [np.int64(4), np.float32(0.5)]}, 4))
    assert read_plain(path) == {"labels": [4, 0.5]}


def test_a_batch_of_python_2_comes_back(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickled(bytes(range(256)) * 12))
    found = read_plain(path)
    assert found["labels"] == [3]
    data = found["data"]
    assert isinstance(data, np.ndarray)
    np.testing.assert_array_equal(data, np.tile(np.arange(256), 12)[None])


class Trap:
    """Its pickle would leave a mark on disk."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["key", "value", "list"])
def test_hostile_objects_are_named_and_never_run(tmp_path, protocol, place):
    mark = tmp_path / "mark"
    trap = Trap(os.mkdir, str(mark))
    content = {"key": {trap: 1}, "value": {"data": trap}, "list": {"data": [1, trap]}}[place]
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(content, protocol))
    loaded = set(sys.modules)
    # protocols 0 and 1 spell dicts and lists otherwise and are refused at that
    with pytest.raises(Refusal, match=r"asks for \w+\.mkdir" if protocol > 1 else "comes to|asks"):
        read_plain(path)
    assert not mark.exists()
    assert set(sys.modules) == loaded


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (b"\x80\x02cos\nsystem\n(U\x04truetR.", "asks for os.system; only dicts, lists, text"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "asks for builtins.eval"),
        (b"\x80\x02(U\x04trueios\nsystem\n.", "comes to INST"),
        (b"\x80\x02(NNo.", "comes to OBJ"),
        (b"\x80\x02)N\x81.", "comes to NEWOBJ"),
        (b"\x80\x02\x82\x01.", "comes to EXT1"),
        (b"\x80\x02}}b.", "fills an object"),
        (b"\x80\x02h\x07.", "recalls item 7"),
        (b"\x80\x02q\x01.", "remembers the top of an empty stack"),
        (b"\x80\x02R.", "empty stack"),
        (b"\x80\x02K\x01K\x02.", "goes on after its end"),
        (b"\x80\x02}.N", "goes on after its end"),
        (b"\x80\x02}(.", "goes on after its end"),
        (b"\x80\x02}K\x01Ns.", "has the key 1"),
        (b"\x80\x02}", "its end without a STOP"),
    ],
)
def test_refusals_name_what_was_asked(tmp_path, payload, word):
    path = tmp_path / "file"
    path.write_bytes(payload)
    with pytest.raises(Refusal, match=word):
        read_plain(path)


@given(content=st.binary(max_size=60))
def test_noise_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "file"
    path.write_bytes(b"\x80\x02" + content + b".")
    with contextlib.suppress(Refusal):
        assert isinstance(read_plain(path), dict)


@given(place=st.integers(0, 199), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("flips") / "file"
    content = pickled()
    path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    with contextlib.suppress(Refusal):
        assert isinstance(read_plain(path), dict)


def test_a_memo_cannot_multiply_memory(tmp_path):
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20) + b"q\x01"
    call = (
        b"c_codecs\nencode\nq\x02h\x01X\6\0\0\0latin1\x86q\x03]h\x02h\x03Ra" + b"h\x02h\x03Ra" * 999
    )
    path = tmp_path / "file"
    path.write_bytes(b"\x80\x02" + text + call + b".")
    tracemalloc.start()
    with pytest.raises(Refusal, match="copies more text than it holds"):
        read_plain(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
