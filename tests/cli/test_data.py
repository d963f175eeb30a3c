from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.cli._data import check_set, list_sets, show_set
from spikeproof.errors import Refusal


@pytest.fixture
def said(capsys):
    return lambda: " ".join(capsys.readouterr().out.split())


def test_sets_are_listed_with_what_is_missing(tmp_path, said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    list_sets(tmp_path)
    text = said()
    assert "digits" in text
    assert "1,438" in text
    assert "absent" in text


def test_embedded_sets_are_checked_and_drawn(tmp_path, said):
    check_set("digits", tmp_path, "")
    assert "digits: ok" in said()
    show_set("digits", tmp_path, "", 2)
    assert said().count("▀") == 2 * 4 * 8


def test_files_of_ones_own_are_described(tmp_path, said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "mine.npz"
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 255, (60, 5, 7, 3), generator=generator).to(torch.uint8).numpy()
    np.savez(path, x=x, y=np.arange(60) % 3)
    check_set(str(path), tmp_path, "npz")
    assert "in 3 classes" in said()
    show_set(str(path), tmp_path, "npz", 1)
    assert said().count("▀") == 3 * 7


def test_a_recording_is_described_and_not_drawn(tmp_path, said):
    path = tmp_path / "one.bin"
    path.write_bytes(bytes([3, 4, 0x80, 0, 9]) * 5)
    check_set(str(path), tmp_path, "nmnist")
    assert "5 events on 34x34 pixels" in said()
    with pytest.raises(Refusal, match="whole sets are drawn"):
        show_set(str(path), tmp_path, "nmnist", 1)


def test_a_damaged_set_is_refused(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(bytes(3073))
    with pytest.raises(Refusal):
        check_set("cifar10", tmp_path, "")


def test_real_sets_are_whole(real_data, said):
    check_set("fashion-mnist", real_data, "")
    text = said()
    assert "60,000 training and 10,000 test samples were read" in text
    assert text.endswith("fashion-mnist: ok")
    check_set("cifar10", real_data, "")
    assert said().endswith("cifar10: ok")
    check_set("n-mnist", real_data, "")
    assert "a part of what was published" in said()
    show_set("n-mnist", real_data, "", 1)
    assert "▀" in said()
