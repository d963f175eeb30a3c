"""The command as a process would see it: exit codes, one sentence, no traceback."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import spikeproof
from spikeproof.cli import main
from spikeproof.cli._main import sentence

RECIPE = """
[model]
kind = "mlp"
hidden = [8]
[train]
epochs = 2
batch = 64
optimizer = { kind = "adam", lr = 0.01 }
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_trains_and_leaves_a_record(run, recipe, tmp_path):
    code, out, err = run("train", recipe, "--out", tmp_path / "run", "train.epochs=1")
    assert (code, err) == (0, "")
    assert "test accuracy" in out
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"record.json", "model.safetensors", "spec.json", "metrics.jsonl"} <= made


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "missing.toml"], "missing.toml: no such file or directory; it must exist"),
        (["train", "{recipe}", "train.epochs=x"], "train.epochs is 'x'"),
        (["train", "{recipe}", "data.name=digitz"], "did you mean 'digits'"),
        (["train", "{recipe}", "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["train", "{recipe}", "--out", "{recipe}"], "is a file"),
        (["train", "{recipe}", "--out", "nothing", "--resume"], "nothing to resume"),
        (["train", "{folder}"], "is no regular file"),
        (["data", "check", "cifar11"], "did you mean 'cifar10"),
        (["data", "check", "cifar10", "--data-dir", "nowhere"], "nowhere has no cifar10"),
        (["data", "check", "x", "--format", "jpeg2000"], "is no format"),
        (["data", "show", "nowhere.npz", "--format", "npz"], "nowhere.npz"),
    ],
)
def test_what_a_user_can_mend_costs_one_sentence(run, recipe, tmp_path, words, sentence):
    words = [word.format(recipe=recipe, folder=tmp_path) for word in words]
    code, _, err = run(*words)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_defect_keeps_its_traceback(run, recipe, tmp_path, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("spikeproof.cli._train.read_data", broken)
    monkeypatch.setattr(sys, "argv", ["spikeproof", "train", str(recipe)])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EISDIR, errno.EIO])
def test_system_errors_are_sentences(number):
    text = sentence(OSError(number, os.strerror(number), "some/file"))
    assert text.startswith("some/file: ")
    assert text.count(";") >= 1
    assert "memory" in sentence(MemoryError())


@pytest.mark.parametrize(
    "words", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory. Tried to ..."]
)
def test_too_little_memory_is_a_sentence_and_another_error_is_not(run, monkeypatch, words):
    def broken(*_args, **_kwargs):
        raise RuntimeError(words)

    monkeypatch.setattr("spikeproof.cli._doctor.doctor", broken)
    code, _, err = run("doctor")
    assert (code, err.count("\n"), "not enough memory" in err) == (2, 0, True)
    words = "shapes differ"
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("doctor")


def test_what_an_encoding_lacks_is_printed_all_the_same(monkeypatch, tmp_path):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    for words in (["data", "show", "digits"], ["train", str(tmp_path / "zw\xf6lf.toml")]):
        monkeypatch.setattr(sys, "argv", ["spikeproof", *words])
        with pytest.raises(SystemExit):
            main()
    for stream, expected in zip(streams, (b"\\u2580", b"zw\\xf6lf.toml"), strict=True):
        stream.flush()
        assert expected in stream.buffer.getvalue()


def test_an_out_that_is_no_folder_is_refused(run, recipe, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("absent")
    for out, said in (
        ("", "--out is empty"),
        (tmp_path / "loop", "leads to itself or to nothing"),
        (tmp_path / "nothing", "leads to itself or to nothing"),
        (tmp_path / "loop" / "x", "mend the link"),
    ):
        code, _, err = run("train", recipe, "--out", out)
        assert (code, said in err, len(err.splitlines())) == (2, True, 1), err


def test_a_recipe_that_is_no_small_file_is_refused(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path / "loop"):
        code, _, err = run("train", path, "--out", tmp_path / "run")
        assert (code, len(err.splitlines())) == (2, 1)
        assert "regular file" in err or "mend the link" in err


def test_a_full_disk_leaves_one_sentence_and_no_half_file(run, recipe, tmp_path, monkeypatch):
    def full(self, *_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run("train", recipe, "--out", tmp_path / "run")
    assert code == 2
    assert "no space left" in err
    assert "free some space" in err
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert not list((tmp_path / "run").glob(".*part"))


def test_ctrl_c_leaves_a_folder_to_resume(run, recipe, tmp_path, monkeypatch):
    from spikeproof.cli import _fitting

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(_fitting, "measure", stop)
        code, _, err = run("train", recipe, "--out", out)
    assert code == 130
    assert "--resume" in err
    code, _, err = run("train", recipe, "--out", out, "--resume")
    assert (code, err) == (0, "")


def test_a_run_is_never_overwritten(run, recipe, tmp_path):
    out = tmp_path / "run"
    run("train", recipe, "--out", out, "train.epochs=1")
    code, _, err = run("train", recipe, "--out", out, "train.epochs=1")
    assert (code, "already holds a run" in err) == (2, True)
    code, _, err = run("train", recipe, "--out", out, "--resume", "train.epochs=2")
    assert (code, "epochs was 1" in err) == (2, True)
    code, _, err = run("train", recipe, "--out", out, "--resume", "augment.pad=1", "train.epochs=1")
    assert (code, "augment.pad" in err) == (2, True)


def test_a_checkpoint_of_another_architecture_is_refused(run, recipe, tmp_path):
    run("train", recipe, "--out", tmp_path / "a", "train.epochs=1")
    run("train", recipe, "--out", tmp_path / "b", "train.epochs=1", "model.hidden=[9]")
    for name in ("state.safetensors", "model.safetensors"):
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    words = ("--resume", "train.epochs=1", "model.hidden=[9]")
    code, _, err = run("train", recipe, "--out", tmp_path / "b", *words)
    assert code == 2
    assert "does not fit" in err


@pytest.mark.slow
def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "spikeproof", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == spikeproof.__version__


def test_a_quiet_training_prints_its_results_alone(run, recipe, tmp_path):
    code, out, err = run("train", recipe, "train.epochs=1", "--quiet", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert out.startswith("test accuracy")
    assert out.endswith(f"weights, record and metrics: {tmp_path / 'run'}")
    code, out, err = run("train", recipe, "train.epochs=1", "-q", "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "--resume" in err
