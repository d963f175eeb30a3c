from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikeproof.errors import Refusal
from spikeproof.training._folder import claimed

PROMISE = {"plan": {"epochs": 3, "betas": (0.9, 0.99)}, "spec": {"name": "vgg", "width": [1, 2]}}


def begin(folder: Path, promise: dict = PROMISE) -> str:
    with claimed(folder, promise, resume=False) as name:
        return name


def test_a_run_keeps_what_it_promised(tmp_path: Path):
    name = begin(tmp_path / "a" / "run")
    kept = json.loads((tmp_path / "a" / "run" / "plan.json").read_text())
    assert kept == json.loads(json.dumps(PROMISE))
    with claimed(tmp_path / "a" / "run", PROMISE, resume=True) as again:
        assert again == name
    assert begin(tmp_path / "b") == name
    assert begin(tmp_path / "c", {"plan": {}}) != name


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({**PROMISE, "plan": {"epochs": 4, "betas": [0.9, 0.99]}}, "plan.epochs was 3 .* is 4 now"),
        ({**PROMISE, "plan": {"epochs": 3}}, r"plan.betas was \[0.9, 0.99\] .* is absent now"),
        ({**PROMISE, "spec": {"name": "wrn", "width": [1, 2]}}, "spec.name was 'vgg' .* 'wrn' now"),
        ({**PROMISE, "spec": {"name": "vgg", "width": [1]}}, r"width was \[1, 2\] .* is \[1\] now"),
        ({**PROMISE, "samples": 9}, "samples was absent .* is 9 now"),
    ],
)
def test_a_changed_promise_is_refused_with_both_values(tmp_path: Path, changed: dict, words: str):
    begin(tmp_path)
    with pytest.raises(Refusal, match=words), claimed(tmp_path, changed, resume=True):
        pytest.fail("the folder was given")


@pytest.mark.parametrize(
    "file",
    [
        "plan.json",
        "state.safetensors",
        "model.safetensors",
        "spec.json",
        "metrics.jsonl",
        "tensorboard",
        "record.json",
    ],
)
def test_a_run_is_never_overwritten(tmp_path: Path, file: str):
    (tmp_path / file).write_text("mine")
    with pytest.raises(Refusal, match=f"already holds a run .{file}.*--resume"):
        begin(tmp_path)
    assert (tmp_path / file).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_there_must_be_something_to_resume(tmp_path: Path):
    with (
        pytest.raises(Refusal, match="holds no run"),
        claimed(tmp_path / "typo", PROMISE, resume=True),
    ):
        pytest.fail("the folder was given")
    assert not (tmp_path / "typo").exists()


def test_a_run_killed_before_its_plan_can_be_resumed(tmp_path: Path):
    (tmp_path / ".lock").touch()
    with claimed(tmp_path, PROMISE, resume=True):
        assert (tmp_path / "plan.json").exists()


def test_leftovers_of_a_kill_are_removed_and_no_other_file(tmp_path: Path):
    begin(tmp_path)
    (tmp_path / ".state.safetensors.x1y2.part").touch()
    (tmp_path / ".plan.json.x1y2.part").touch()
    (tmp_path / "notes.part").touch()
    with claimed(tmp_path, PROMISE, resume=True):
        names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [".lock", "notes.part", "plan.json"]


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="is a file"):
        begin(tmp_path / "file")


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_a_spec_is_json(tmp_path: Path, value: object):
    with pytest.raises(Refusal, match="cannot be written as JSON"):
        begin(tmp_path / "run", {"spec": {"x": value}})
    assert not (tmp_path / "run").exists()


def test_one_process_at_a_time_and_a_kill_frees_the_folder(tmp_path: Path):
    begin(tmp_path)
    with claimed(tmp_path, PROMISE, resume=True):
        _refused_as_in_use(tmp_path)
    hold = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        _refused_as_in_use(tmp_path)
        other.kill()
        other.wait()
        with claimed(tmp_path, PROMISE, resume=True):
            pass


def _refused_as_in_use(folder: Path) -> None:
    with pytest.raises(Refusal, match="is in use"), claimed(folder, PROMISE, resume=True):
        pytest.fail("the folder was given twice")


def test_a_run_that_was_refused_before_it_kept_anything_leaves_nothing(tmp_path: Path):
    def fail(folder: Path, *files: str) -> None:
        with claimed(folder, PROMISE, resume=False):
            for file in files:
                (folder / file).write_text("kept")
            raise Refusal("a; b; c")

    with pytest.raises(Refusal, match="a; b; c"):
        fail(tmp_path / "new", "metrics.jsonl")
    assert not (tmp_path / "new").exists()
    with pytest.raises(Refusal, match="a; b; c"):
        fail(tmp_path / "begun", "state.safetensors")
    assert (tmp_path / "begun" / "plan.json").exists()
