from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from spikeproof.errors import Refusal
from spikeproof.evaluate._artifacts import FILE, read_tensors, write_tensors
from spikeproof.evaluate._blocks import Block, Blocks, claimed, tidy
from spikeproof.records import digest

PROMISE = {"weights": "abc", "suite": {"steps": [{"id": "a"}, {"id": "b"}]}, "shard": [1, 1]}


def block(*places):
    bits, zeros = tuple(p % 2 == 0 for p in places), tuple(0 for _ in places)
    none = tuple(False for _ in places)
    return Block(
        places, bits, none, none, none, none, places, zeros, zeros, (0.1,) * len(places), "", 2.5
    )


@pytest.mark.parametrize("kept", [True, False], ids=["in a folder", "in memory"])
def test_finished_blocks_come_back_in_the_order_of_their_samples(tmp_path, kept):
    blocks = Blocks(tmp_path if kept else None)
    for number, places in ((1, (4, 5)), (0, (0, 1, 2)), (1, (1, 3))):
        blocks.add(number, block(*places))
    for there in (blocks, Blocks(tmp_path)) if kept else (blocks,):
        assert there.of(1) == (block(1, 3), block(4, 5))
        assert there.of(0) == (block(0, 1, 2),)
        assert there.of(2) == ()


def test_a_file_that_is_no_block_is_named(tmp_path):
    Blocks(tmp_path).add(0, block(1))
    path = next((tmp_path / "blocks").iterdir())
    path.write_text("{}")
    with pytest.raises(Refusal, match=f"{path.name} is no block"):
        Blocks(tmp_path)
    path.write_text("{")
    with pytest.raises(Refusal, match="is not a record"):
        Blocks(tmp_path)


def test_a_folder_is_for_one_process_and_one_promise(tmp_path):
    folder = tmp_path / "run"
    with claimed(folder, PROMISE, resume=False):
        code = (
            "import sys; from pathlib import Path\n"
            "from spikeproof.evaluate._blocks import claimed\n"
            f"with claimed(Path({str(folder)!r}), {PROMISE!r}, resume=True): pass"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "is in use" in done.stderr
    with claimed(folder, PROMISE, resume=True):
        pass
    with (
        pytest.raises(Refusal, match="already holds an evaluation"),
        claimed(folder, PROMISE, resume=False),
    ):
        pass


def test_there_must_be_something_to_resume_and_a_folder_to_write_to(tmp_path):
    with pytest.raises(Refusal, match="nothing to resume"), claimed(tmp_path, {}, resume=True):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="is a file"), claimed(tmp_path / "file", {}, resume=False):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "xyz"}, "weights was 'abc' .* is 'xyz' now"),
        ({"shard": [1, 2]}, r"shard\[2\] was 1"),
        ({"suite": {"steps": [{"id": "a"}, {"id": "c"}]}}, r"suite.steps\[2\].id was 'b'"),
        ({"suite": {"steps": [{"id": "a"}]}}, "suite.steps was "),
        ({"more": 1}, "more was absent"),
    ],
)
def test_another_promise_is_refused_and_says_what_differs(tmp_path, change, said):
    with claimed(tmp_path, PROMISE, resume=False):
        pass
    with pytest.raises(Refusal, match=said), claimed(tmp_path, PROMISE | change, resume=True):
        pass


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    with claimed(tmp_path, PROMISE, resume=False):
        Blocks(tmp_path).add(0, block(1))
    rests = [tmp_path / "blocks" / ".000-1.json.x.part", tmp_path / ".promise.json.y.part"]
    for rest in rests:
        rest.write_text("half")
    with claimed(tmp_path, PROMISE, resume=True):
        assert not any(rest.exists() for rest in rests)
        assert Blocks(tmp_path).of(0) == (block(1),)


def test_a_kill_before_the_promise_was_written_leaves_a_folder_to_begin_in(tmp_path):
    (tmp_path / ".lock").touch()
    for resume in (True, False):
        with claimed(tmp_path / "." if resume else tmp_path, PROMISE, resume=True):
            assert json.loads((tmp_path / "promise.json").read_text()) == PROMISE
        (tmp_path / "promise.json").unlink()


def test_floats_survive_the_disk_bit_for_bit(tmp_path):
    odd = replace(block(1, 2), size=(0.1 + 0.2, 1 / 3))
    Blocks(tmp_path).add(0, odd)
    assert Blocks(tmp_path).of(0) == (odd,)


def test_adversarials_lie_beside_their_block_until_they_are_put_together(tmp_path):
    x_adv = torch.tensor([[0.5], [0.25]])
    blocks = Blocks(tmp_path)
    blocks.add(1, block(4, 5, 6), [4, 6], x_adv)
    blocks.add(2, block(7), [], x_adv[:0])
    (file,) = Blocks(tmp_path).files
    assert file.name == "001-00000004.safetensors"
    places, back = read_tensors(file)
    assert places == [4, 6]
    assert torch.equal(back, x_adv)
    kept = blocks.of(1)
    assert kept[0].adversarials == digest(file)
    write_tensors(tmp_path / FILE, [4, 6], x_adv)
    tidy(tmp_path)
    together = Blocks(tmp_path)  # all are in one file now, and no record says so
    assert (together.of(1), together.files) == (kept, [tmp_path / FILE])
    write_tensors(tmp_path / FILE, [4], x_adv[:1])
    assert Blocks(tmp_path).of(1) == ()
    assert Blocks(tmp_path).of(2) == (block(7),), "one without adversarials is whole"
    assert Blocks(tmp_path).files == []
    Blocks(tmp_path, adversarials=False).add(3, block(8), [8], x_adv[:1])
    assert Blocks(tmp_path).files == []
    nowhere = Blocks(None)
    nowhere.add(1, block(4), [4], x_adv[:1])
    assert not nowhere.files
    assert not nowhere.adversarials
