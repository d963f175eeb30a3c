from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeproof.data import Checksum, check, find, inventory, load
from spikeproof.data._named import SETS
from spikeproof.errors import Refusal
from tests.oracles.malformed_data import idx_bytes


def small_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        images = np.arange(count * 6).reshape(count, 2, 3)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(count) % 10))


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "MNIST"])
def test_usual_folders_are_found(tmp_path, folder):
    small_mnist(tmp_path / folder)
    assert find("mnist", tmp_path).samefile(tmp_path / folder)
    assert find("mnist", tmp_path / folder).samefile(tmp_path / folder)
    dataset = load("mnist", tmp_path, validation=0.25)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [30, 10, 20]
    assert dataset.classes == tuple("0123456789")


def test_what_is_absent_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(Refusal, match="its folder is called cifar-10-batches-bin"):
        find("cifar10", tmp_path)
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(Refusal, match="has no file of cifar10"):
        load("cifar10", tmp_path)
    with pytest.raises(Refusal, match="is called"):
        check("mnist", tmp_path)
    with pytest.raises(Refusal, match="did you mean 'mnist'"):
        find("mnis", tmp_path)
    with pytest.raises(Refusal, match="embedded"):
        find("digits", tmp_path)


def test_an_inventory_has_a_row_for_every_set(tmp_path):
    small_mnist(tmp_path / "mnist")
    rows = {row.name: row for row in inventory(tmp_path)}
    assert set(rows) == set(SETS)
    assert rows["mnist"].found == (40, 20)
    assert rows["mnist"].problem == (
        "mnist has 40 of 60000 training and 20 of 10000 test samples; "
        "the counts must agree with the published ones; take complete files"
    )
    assert not rows["cifar10"].present
    assert rows["digits"].problem is None
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    damaged = inventory(tmp_path)[0]
    assert damaged.present
    assert damaged.found is None
    assert "has no t10k-labels-idx1-ubyte" in str(damaged.problem)
    assert check("mnist", tmp_path).verdict == "damaged"


def test_images_without_labels_are_counted_as_a_problem(tmp_path):
    small_mnist(tmp_path / "mnist")
    labels = idx_bytes(np.arange(39) % 10)
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(labels)
    assert "40 train images and 39 labels" in str(inventory(tmp_path)[0].problem)
    assert check("mnist", tmp_path).verdict == "damaged"


def test_a_file_without_a_published_checksum_is_never_ok(tmp_path):
    small_mnist(tmp_path / "mnist")
    report = check("mnist", tmp_path)
    assert [checksum.verdict for checksum in report.checksums] == ["unknown checksum"] * 4
    assert Checksum("a", "1", "1").verdict == "ok"
    assert Checksum("a", "1", "2").verdict == "differs"


def test_embedded_sets_are_whole(tmp_path):
    report = check("digits", tmp_path)
    assert report.verdict == "ok"
    assert report.row.found == (1438, 359)
    assert torch.equal(load("digits", tmp_path).test.x, load("digits", tmp_path, seed=4).test.x)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_the_published_files_are_ok(real_data, name):
    report = check(name, real_data)
    assert report.verdict == "ok"
    assert report.row.problem is None
    assert {checksum.verdict for checksum in report.checksums} == {"ok"}
    dataset = load(name, real_data)
    assert dataset.test.y.bincount().tolist() == [1000] * 10
    per_class = SETS[name].counts[0] // 10
    assert dataset.validation.y.bincount().tolist() == [per_class // 10] * 10
    assert dataset.train.y.bincount().tolist() == [per_class - per_class // 10] * 10


def test_fashion_has_its_known_mean(real_data):
    dataset = load("fashion-mnist", real_data)
    assert dataset.mean == pytest.approx((0.286,), abs=1e-3)
    assert dataset.std == pytest.approx((0.353,), abs=1e-3)


def test_cifar_has_its_known_mean(real_data):
    dataset = load("cifar10", real_data)
    assert dataset.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert dataset.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=2e-3)


def test_a_part_of_n_mnist_is_stated_and_no_error(real_data):
    row = next(row for row in inventory(real_data) if row.name == "n-mnist")
    report = check("n-mnist", real_data)
    paths = [len(list((real_data / "n-mnist").glob(f"{p}/*/*.bin"))) for p in ("Train", "Test")]
    assert report.row == row
    assert row.found == tuple(paths)
    assert row.problem is None
    assert f"{paths[0]} of 60000" in str(row.note)
    assert report.verdict == "unknown checksum"


def test_a_changed_file_differs(real_data, tmp_path):
    copy = tmp_path / "fashion-mnist"
    shutil.copytree(real_data / "fashion-mnist", copy)
    path = copy / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] = (content[100] + 1) % 10
    path.unlink()
    path.write_bytes(gzip.compress(content))
    report = check("fashion-mnist", tmp_path)
    assert report.row.problem is None
    assert report.verdict == "damaged"
    assert [c.verdict for c in report.checksums] == ["ok", "ok", "ok", "differs"]
