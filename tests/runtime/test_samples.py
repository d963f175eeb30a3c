from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from spikeproof.data import load
from spikeproof.errors import Refusal
from spikeproof.runtime import can_read, read_samples


def idx(array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def written(folder, images, labels, *, packed=False):
    folder.mkdir(parents=True)
    for stem, rank, array in (("t10k-images", 3, images), ("t10k-labels", 1, labels)):
        name = f"{stem}-idx{rank}-ubyte"
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


@pytest.mark.parametrize("packed", [False, True])
def test_idx_pairs_are_read(tmp_path, packed):
    images = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    written(tmp_path / "mnist", images, np.array([7, 1]), packed=packed)
    samples = read_samples("mnist", tmp_path)
    x, y = samples.batch(0, 2)
    assert x.shape == (2, 1, 3, 4)
    assert y.tolist() == [7, 1]
    assert x[1, 0, 2, 3] == np.float32(23) * np.float32(1 / 255)
    assert len(read_samples("mnist", tmp_path / "mnist")) == 2


@pytest.mark.parametrize(("name", "file", "labels"), [
    ("cifar10", "cifar-10-batches-bin/test_batch.bin", [3]),
    ("cifar100", "cifar-100-binary/test.bin", [9, 3]),
])  # fmt: skip
def test_cifar_is_read(tmp_path, name, file, labels):
    (tmp_path / file).parent.mkdir()
    pixels = np.arange(3072) % 256
    (tmp_path / file).write_bytes(bytes([*labels, *pixels]) * 2)
    samples = read_samples(name, tmp_path)
    assert samples.x.shape == (2, 3, 32, 32)
    assert samples.y.tolist() == [3, 3]
    assert np.array_equal(samples.x[1].reshape(-1), pixels)


def test_archives_are_read(tmp_path):
    path = str(tmp_path / "set.npz")
    np.savez(path, x_test=np.full((2, 5, 6, 3), 255, np.uint8), y_test=np.array([0, 1]))
    x, _ = read_samples(path, tmp_path).batch(0, 2)
    assert x.shape == (2, 3, 5, 6)
    assert x.max() == 1
    np.savez(path, x_test=np.full((2, 4, 2, 5, 6), 3, np.uint8), y_test=np.array([0, 1]))
    assert read_samples(path, tmp_path).batch(0, 1)[0].max() == 3  # counts of events


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_real_sets_are_those_of_the_data_room(real_data, name):
    ours, theirs = read_samples(name, real_data), load(name, real_data).test
    assert np.array_equal(ours.x, theirs.x.numpy())
    assert np.array_equal(ours.y, theirs.y.numpy())
    assert ours.scale == theirs.scale


def test_what_is_not_read_here():
    assert can_read("cifar10")
    assert can_read("a/b.npz")
    assert not can_read("digits")


def test_damage_is_refused(tmp_path):
    with pytest.raises(Refusal, match="mnist"):
        read_samples("mnist", tmp_path)
    written(tmp_path / "mnist", np.zeros((3, 2, 2)), np.zeros(2))
    with pytest.raises(Refusal, match="label"):
        read_samples("mnist", tmp_path)
    image = tmp_path / "mnist" / "t10k-images-idx3-ubyte"
    for data, word in (
        (image.read_bytes()[:-1], "promises"),
        (b"\0\0\x0d\x03", "start"),
        (b"\0\0", "start"),
        (b"\0\0\x08\x03\0", "cannot be read|complete"),
    ):
        image.write_bytes(data)
        with pytest.raises(Refusal, match=word):
            read_samples("mnist", tmp_path)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(bytes(3074))
    with pytest.raises(Refusal, match="3073"):
        read_samples("cifar10", tmp_path)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK\3\4 no archive")
    with pytest.raises(Refusal, match="cannot be read"):
        read_samples(str(bad), tmp_path)
    np.savez(bad, x=np.zeros(3))
    with pytest.raises(Refusal, match="x_test"):
        read_samples(str(bad), tmp_path)
    np.savez(bad, x_test=np.zeros((3, 2)), y_test=np.zeros(3))
    with pytest.raises(Refusal, match="axis"):
        read_samples(str(bad), tmp_path)
    np.savez(bad, x_test=np.array([object()]), y_test=np.zeros(1))
    with pytest.raises(Refusal, match="cannot be read"):
        read_samples(str(bad), tmp_path)
