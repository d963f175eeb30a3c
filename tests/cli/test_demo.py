from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from spikeproof.catalogue import read_recipe
from spikeproof.cli import _demo, app
from spikeproof.evaluate import _evaluate
from spikeproof.records import read_json

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["train.epochs=1", "train.warmup=0", "data.limit=96"]


def quickly(path):
    stages = [f"stages.{n}.epochs=1" for n in (1, 2, 3)] if path.stem == "sparse" else []
    return read_recipe(path, [*QUICK, *stages])


def shape(text):
    """What the story says whatever its numbers are."""
    text = re.sub(r"; (flagged|unreliable|no evidence of masking)", "; ...", text)
    text = re.sub(r"is that of \w+", "is that of ...", text)
    return " ".join(re.sub(r"\d[\d.,]*\d|\d", "#", text).split())


def block_of_the_readme():
    blocks = (ROOT / "README.md").read_text().split("```")
    return next(block for block in blocks if "learn to read handwriting" in block)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(_demo, "read_recipe", quickly)
    monkeypatch.setattr(_demo, "ATTACKED", 6)
    monkeypatch.setattr(_demo, "INSIDE", 2)
    made = _evaluate._doubted  # probing a model takes seconds
    monkeypatch.setattr(_evaluate, "_doubted", lambda e, checks, **k: made(e, checks or (), **k))


@pytest.mark.slow
def test_a_demo_that_was_stopped_goes_on_and_tells_the_same_again(
    short, run, tmp_path, monkeypatch
):
    out = tmp_path / "story"

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_demo, "evaluate_command", stop)
        code, said, err = run("demo", "--out", out, "--device", "cpu")
    assert code == 130
    assert "--resume goes on (demo: without)" in err
    assert said.count("test images") == 1
    weights = (out / "natural" / "model.safetensors").read_bytes()
    code, first, _ = run("demo", "--out", out, "--device", "cpu")
    assert code == 0
    assert (out / "natural" / "model.safetensors").read_bytes() == weights
    for word in (*_demo.NETWORKS, "95 % interval", "layers.10", "uJ", "bytes", "commands.sh"):
        assert word in first
    assert shape(first.replace(str(out), "runs/demo")) == shape(block_of_the_readme())
    page = (out / "report.html").read_text()
    for word in ("Of 3 evaluations", "Sample by sample", "Layer by layer", "Packed"):
        assert word in page
    assert "size of the packed file" in page
    with monkeypatch.context() as patch:  # nothing is computed again
        patch.setattr(_demo, "train", stop)
        patch.setattr("spikeproof.evaluate._evaluate.conduct", stop)
        code, again, _ = run("demo", "--out", out, "--device", "cpu")
    assert code == 0
    assert again == first
    code, quiet, err = run("demo", "--out", out, "--device", "cpu", "--quiet")
    assert (code, quiet, err) == (0, first, "")


def test_its_commands_can_be_typed(tmp_path):
    lines = _demo.commands(tmp_path / "a b")
    assert len(lines) == 17
    for line in lines:
        name, *words = shlex.split(line.partition(" > ")[0])[1:]
        typer.main.get_command(app).commands[name].make_context(name, words)
    assert {shlex.split(line)[1] for line in lines} == {
        "train", "evaluate", "diagnose", "energy", "export", "run", "report",
    }  # fmt: skip


def test_recipes_of_another_version_are_refused(short, run, tmp_path, monkeypatch):
    monkeypatch.setattr(_demo, "_attacked", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("demo", "--out", tmp_path, "--device", "cpu")[0] == 130
    record = tmp_path / "natural" / "record.json"
    values = read_json(record)
    assert values["recipe"]["train"]["epochs"] == 1
    monkeypatch.setattr(_demo, "read_recipe", lambda path: read_recipe(path, [*QUICK[1:]]))
    code, _, err = run("demo", "--out", tmp_path, "--device", "cpu")
    assert code == 2
    assert "epochs was 1" in err


def test_the_recipes_come_along(tmp_path):
    _demo._unpack(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "natural.toml", "robust.toml", "sparse.toml", "commands.sh",
    }  # fmt: skip
    assert read_recipe(tmp_path / "robust.toml").penalties


def test_a_folder_of_other_things_is_left_alone(run, tmp_path):
    (tmp_path / "robust.toml").write_text("mine")
    code, _, said = run("demo", "--out", tmp_path)
    assert (code, said.count("\n")) == (2, 0)
    assert "holds other things" in said
    assert [path.name for path in tmp_path.iterdir()] == ["robust.toml"]
    assert (tmp_path / "robust.toml").read_text() == "mine"
