from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from spikeproof.data import Dataset, read_idx, read_path
from spikeproof.data._idx import DTYPES
from spikeproof.errors import Refusal


def idx_bytes(array: np.ndarray, code: int) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(DTYPES[code]).tobytes()


@given(
    code=st.sampled_from(sorted(DTYPES)),
    array=array_shapes(max_dims=4, max_side=4).flatmap(
        lambda shape: arrays(np.int8, shape, elements=st.integers(0, 100))
    ),
    packed=st.booleans(),
)
def test_every_type_and_rank_comes_back(tmp_path_factory, code, array, packed):
    path = tmp_path_factory.mktemp("idx") / "file"
    content = idx_bytes(array, code)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_idx(path)
    assert found.dtype == np.dtype(DTYPES[code]).newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def written(folder, dot="-", ending=""):
    images = np.arange(12 * 6, dtype=np.uint8).reshape(12, 2, 3)
    labels = np.arange(12) % 3
    for part in ("train", "t10k"):
        for kind, array in (("images", images), ("labels", labels)):
            content = idx_bytes(array, 8)
            path = folder / f"{part}-{kind}{dot}idx{array.ndim}-ubyte{ending}"
            path.write_bytes(gzip.compress(content) if ending else content)
    return images, labels


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_four_files_is_a_set(tmp_path, dot, ending):
    images, labels = written(tmp_path, dot, ending)
    dataset = read_path("idx", tmp_path, validation=0.25)
    assert isinstance(dataset, Dataset)
    assert dataset.classes == ("0", "1", "2")
    assert torch.equal(dataset.test.x[:, 0], torch.from_numpy(images))
    assert dataset.test.y.tolist() == labels.tolist()
    assert dataset.test.scale == 1 / 255
    assert (len(dataset.train), len(dataset.validation)) == (9, 3)


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1, 2, 2)
    path.write_bytes(gzip.compress(header + bytes(1 << 26)))
    with pytest.raises(Refusal, match="promises 4 bytes after its header and holds more"):
        read_idx(path)


def test_a_promise_beyond_any_packing_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "huge.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 2]) + struct.pack(">2I", 2**31, 2**31)))
    with pytest.raises(Refusal, match="4611686018427387904 bytes"):
        read_idx(path)
