from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from spikeproof.data import Dataset, read_cifar_binary, read_cifar_python, read_path
from spikeproof.data._published import CIFAR10, CIFAR100
from spikeproof.errors import Refusal

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
TEN = np.arange(20) % 10
HUNDRED = np.arange(20) * 5


def binary(*columns: np.ndarray) -> bytes:
    return np.column_stack([column.astype(np.uint8) for column in columns]).tobytes()


def test_binary_records_come_back(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(binary(TEN, PIXELS))
    split = read_cifar_binary(path, 10)
    assert torch.equal(split.x.flatten(1), torch.from_numpy(PIXELS))
    assert split.x[3, 1, 2, 5] == PIXELS[3, 1024 + 2 * 32 + 5]
    assert split.y.tolist() == TEN.tolist()
    path.write_bytes(binary(HUNDRED // 5, HUNDRED, PIXELS))
    split = read_cifar_binary(path, 100)
    assert torch.equal(split.x.flatten(1), torch.from_numpy(PIXELS))
    assert split.y.tolist() == HUNDRED.tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", ["labels", "fine_labels"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_python_batches_come_back(tmp_path, protocol, key, as_bytes):
    labels = (HUNDRED if key == "fine_labels" else TEN).tolist()
    plain = {"data": PIXELS, key: labels, "filenames": ["a.png"] * 20, "batch_label": "1 of 5"}
    content = {name.encode(): value for name, value in plain.items()} if as_bytes else plain
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(content, protocol))
    split = read_cifar_python(path)
    assert torch.equal(split.x.flatten(1), torch.from_numpy(PIXELS))
    assert split.y.tolist() == labels


def test_labels_may_be_an_array(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": PIXELS, "labels": TEN}, 4))
    assert read_cifar_python(path).y.tolist() == TEN.tolist()


@pytest.mark.parametrize("kind", ["cifar-binary", "cifar-python"])
@pytest.mark.parametrize("classes", [10, 100])
def test_folders_come_back_whole_and_in_order(tmp_path, kind, classes):
    train = [f"data_batch_{k}" for k in range(1, 6)] if classes == 10 else ["train"]
    names = [*train, "test_batch" if classes == 10 else "test"]
    labels = TEN if classes == 10 else TEN * 9
    for k, name in enumerate(names):
        pixels = PIXELS // 8 + 32 * k
        if kind == "cifar-binary":
            columns = [labels] if classes == 10 else [labels // 5, labels]
            (tmp_path / f"{name}.bin").write_bytes(binary(*columns, pixels))
        else:
            key = "labels" if classes == 10 else "fine_labels"
            (tmp_path / name).write_bytes(pickle.dumps({"data": pixels, key: labels.tolist()}, 2))
    dataset = read_path(kind, tmp_path, validation=0.5)
    assert isinstance(dataset, Dataset)
    assert dataset.classes == (CIFAR10 if classes == 10 else CIFAR100)
    assert len(dataset.test) == 20
    assert dataset.test.x.min() >= 32 * (len(names) - 1)
    assert len(dataset.train) + len(dataset.validation) == 20 * (len(names) - 1)
    both = torch.cat([dataset.train.x, dataset.validation.x]).flatten(1).long().sum(1)
    expected = np.concatenate([(PIXELS // 8 + 32 * k).sum(1) for k in range(len(names) - 1)])
    assert sorted(both.tolist()) == sorted(expected.tolist())


def test_labels_out_of_range_name_the_file_and_the_range(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(binary(TEN + 1, PIXELS))
    with pytest.raises(Refusal, match=r"batch\.bin has the label 10; CIFAR-10 has 0\.\.9"):
        read_cifar_binary(path, 10)
