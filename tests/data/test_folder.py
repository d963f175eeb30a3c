from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from spikeproof.data import read_folder
from spikeproof.errors import Refusal

RANDOM = np.random.default_rng(0)


def filled(root, names=("cat", "dog"), count=10, shape=(6, 5, 3), ending="png"):
    """Writes pictures and returns them in the order of their paths."""
    pictures = []
    for name in names:
        (root / name).mkdir(parents=True)
        for k in range(count):
            picture = RANDOM.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(picture).save(root / name / f"{k:03}.{ending}")
            pictures.append(picture)
    return np.stack(pictures)


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm"])
def test_pictures_come_back_to_the_bit(tmp_path, ending):
    filled(tmp_path / "train", ending=ending)
    expected = filled(tmp_path / "test", ending=ending)
    dataset = read_folder(tmp_path, validation=0.2)
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.test.x.numpy(), np.moveaxis(expected, -1, 1))
    assert dataset.test.y.tolist() == [0] * 10 + [1] * 10
    assert (len(dataset.train), len(dataset.validation)) == (16, 4)


def test_grey_stays_grey_unless_there_is_colour(tmp_path):
    filled(tmp_path, shape=(6, 5))
    assert read_folder(tmp_path).shape == (1, 6, 5)
    filled(tmp_path, names=("eel",))
    assert read_folder(tmp_path).shape == (3, 6, 5)


def test_one_folder_is_split_three_ways(tmp_path):
    filled(tmp_path, count=50)
    dataset = read_folder(tmp_path, seed=3)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [72, 8, 20]


def test_pictures_are_resized_only_on_demand(tmp_path):
    filled(tmp_path, names=("cat",))
    filled(tmp_path, names=("dog",), shape=(9, 9, 3))
    with pytest.raises(Refusal, match=r"\(6, 5\) and \(9, 9\) pixels"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, size=(4, 7)).shape == (3, 4, 7)
    with pytest.raises(Refusal, match="height and a width"):
        read_folder(tmp_path, size=(0, 7))


def test_a_resized_flat_picture_keeps_its_grey(tmp_path):
    for name, grey in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        for k in range(10):
            Image.new("L", (5, 6), grey).save(tmp_path / name / f"{k}.png")
    dataset = read_folder(tmp_path, size=(12, 12))
    assert dataset.test.x[dataset.test.y == 1].unique().tolist() == [200]
    assert dataset.test.x[dataset.test.y == 0].unique().tolist() == [10]


def test_resizing_keeps_rows_and_columns_apart(tmp_path):
    rows = np.repeat(np.arange(6, dtype=np.uint8)[:, None] * 40, 5, axis=1)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(10):
            Image.fromarray(rows).save(tmp_path / name / f"{k}.png")
    x = read_folder(tmp_path, size=(3, 10)).test.x.int()
    assert (x == x[..., :1]).all()
    assert (x.diff(dim=-2) > 40).all()


def test_hidden_and_other_files_are_passed_over(tmp_path):
    filled(tmp_path)
    (tmp_path / "dog" / "notes.txt").write_text("not a picture")
    (tmp_path / "dog" / ".hidden.png").write_text("not a picture")
    (tmp_path / ".thumbnails").mkdir()
    assert read_folder(tmp_path).classes == ("cat", "dog")


def test_a_set_too_large_for_memory_is_refused(tmp_path):
    filled(tmp_path)
    with pytest.raises(Refusal, match="GiB"):
        read_folder(tmp_path, size=(1 << 15, 1 << 15))


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(Refusal, match=r"pip install 'spikeproof\[images\]'"):
        read_folder(tmp_path)
