from __future__ import annotations

import contextlib
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.data import read_npz
from spikeproof.errors import Refusal

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (40, 5, 6), dtype=np.uint8)
Y = np.arange(40) % 4


def saved(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [((5, 6), False), ((1, 5, 6), False), ((3, 5, 6), False), ((5, 6, 3), True), ((5, 6, 1), True),
     ((3, 6, 3), False), ((1, 6, 3), False), ((5, 6, 4), False)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, ">f8"])
def test_every_layout_becomes_channels_first(tmp_path, shape, channels_last, dtype):
    x = RANDOM.integers(0, 2, (40, *shape)).astype(dtype)
    found = read_npz(saved(tmp_path / "a.npz", x_train=x, y_train=Y, x_test=x, y_test=Y)).test
    expected = np.moveaxis(x, -1, 1) if channels_last else x
    if len(shape) == 2:
        expected = x[:, None]
    np.testing.assert_array_equal(found.x.numpy(), expected.astype(found.x.numpy().dtype))
    assert found.scale == (1 / 255 if dtype is np.uint8 else 1.0)
    assert found.y.tolist() == Y.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_event_counts_keep_their_axes(tmp_path, dtype):
    x = RANDOM.integers(0, 200, (40, 3, 2, 4, 4)).astype(dtype)
    dataset = read_npz(saved(tmp_path / "a.npz", x_train=x, y_train=Y, x_test=x, y_test=Y))
    assert dataset.events
    batch = dataset.test.batch(torch.arange(40))[0]
    np.testing.assert_array_equal(batch.numpy(), x.astype(np.float32))


def test_fortran_order_and_uncompressed_archives_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.asfortranarray(X), y_train=Y, x_test=X, y_test=Y)
    dataset = read_npz(tmp_path / "a.npz")
    both = torch.cat([dataset.train.x, dataset.validation.x]).long().sum((1, 2, 3))
    assert sorted(both.tolist()) == sorted(X.sum((1, 2), dtype=np.int64).tolist())


def test_one_piece_is_split_three_ways(tmp_path):
    path = saved(tmp_path / "a.npz", x=X, y=Y)
    one, two = read_npz(path, seed=1), read_npz(path, seed=2)
    assert [len(part) for part in (one.train, one.validation, one.test)] == [29, 3, 8]
    assert torch.equal(one.test.x, two.test.x)
    assert not torch.equal(one.validation.x, two.validation.x)
    assert one.classes == ("0", "1", "2", "3")


def test_a_bomb_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.npz"
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("x.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(Refusal, match="up to 200 times"):
        read_npz(path)


def test_a_name_twice_is_refused(tmp_path):
    path = saved(tmp_path / "a.npz", x=X, y=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", archive.read("x.npy"))
    with pytest.raises(Refusal, match="holds 'x' twice"):
        read_npz(path)


def test_a_locked_archive_is_refused(tmp_path):
    content = bytearray(saved(tmp_path / "a.npz", x=X, y=Y).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag of encryption, in the directory
    content[6] |= 1
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(Refusal, match="no archive that can be read"):
        read_npz(tmp_path / "b.npz")


def test_objects_are_refused_by_their_type(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}] * 40), y=Y, allow_pickle=True)
    with pytest.raises(Refusal, match=r"a\.npz:x holds '\|O'; only arrays of numbers"):
        read_npz(tmp_path / "a.npz")


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(tmp_path_factory, place, value):
    path = saved(tmp_path_factory.mktemp("flips") / "a.npz", x=X[:8], y=Y[:8] % 2)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(Refusal):
        assert read_npz(path, validation=0.2).shape == (1, 5, 6)
