from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

from spikeproof.data import Dataset, Events, Split, by_count, read_nmnist, read_path
from spikeproof.data._layouts import FORMATS
from spikeproof.errors import Refusal
from tests.oracles.malformed_data import idx_bytes, malformed_data, npz_bytes, pickled


def test_every_malformed_input_is_refused_in_one_sentence(tmp_path):
    seen = []
    for kind, path in malformed_data(tmp_path):
        with pytest.raises(Refusal) as refusal:
            read_path(kind, path)
        message = str(refusal.value)
        assert len(message) < 600, (kind, path)
        assert "\n" not in message, (kind, path)
        seen.append((kind, path))
    assert len(set(seen)) == len(seen) > 300
    assert {kind for kind, _ in seen} == set(FORMATS)


def test_promises_of_size_cost_no_memory(tmp_path):
    greedy = re.compile("huge|bomb|gigabyte|exabyte|copies|too_large|side_flip")
    inputs = [(kind, path) for kind, path in malformed_data(tmp_path) if greedy.search(path.name)]
    assert len(inputs) > 20
    for kind, path in inputs:
        tracemalloc.start()
        with pytest.raises(Refusal):
            read_path(kind, path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20, (kind, path)


def test_what_the_malformed_inputs_were_made_from_is_sound(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(np.arange(24).reshape(2, 3, 4)))
    found = read_path("idx", path)
    assert isinstance(found, np.ndarray)
    assert found.shape == (2, 3, 4)
    path.write_bytes(pickled())
    found = read_path("cifar-python", path)
    assert isinstance(found, Split)
    assert found.y.tolist() == [3]
    path.write_bytes(bytes(3073) * 2)
    found = read_path("cifar-binary", path)
    assert isinstance(found, Split)
    assert len(found) == 2
    x = np.arange(240, dtype=np.uint8).reshape(20, 3, 4)
    path.write_bytes(npz_bytes({"x": x, "y": np.arange(20) % 2}))
    assert isinstance(read_path("npz", path), Dataset)
    path.write_bytes(bytes([3, 4, 128, 1, 0]))
    found = read_path("nmnist", path)
    assert isinstance(found, Events)
    assert (found.x.tolist(), found.y.tolist(), found.p.tolist()) == ([3], [4], [1])


def test_unknown_formats_get_a_hint(tmp_path):
    with pytest.raises(Refusal, match="did you mean 'npz'"):
        read_path("npzz", tmp_path)


def test_a_folder_of_recordings_is_framed_by_count(real_data):
    root = real_data / "n-mnist"
    dataset = read_path("nmnist", root, steps=3)
    assert isinstance(dataset, Dataset)
    assert dataset.shape == (3, 2, 34, 34)
    paths = sorted(root.glob("Test/*/*.bin"))
    assert len(dataset.test) == len(paths)
    for place in (0, 17, len(paths) - 1):
        expected = by_count(read_nmnist(paths[place]), 3)
        np.testing.assert_array_equal(dataset.test.x[place].numpy(), expected)
        assert dataset.test.y[place] == int(paths[place].parent.name)
