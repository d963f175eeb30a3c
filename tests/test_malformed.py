"""Hundreds of malformed inputs at the command line: one sentence each, code 2, nothing left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from spikeproof.training._checkpoint import _write
from tests.oracles.malformed_data import malformed_data

RECIPE = """
[model]
kind = "mlp"
hidden = [4]
[network]
T = 2
[train]
epochs = 1
batch = 256
optimizer = { kind = "adam", lr = 0.01 }
"""
BAD_RECIPES = [
    "", "[", "[model", "model", "model = 3", '[model]\nkind = "mlp"', '[train]\nepochs = 1',
    RECIPE + "\nepochs = 2", RECIPE + "\n[model]", RECIPE + "\n[oops]\nx = 1",
    *(
        RECIPE.replace(old, new)
        for old, new in [
            ('kind = "mlp"', "kind = 3"), ('kind = "mlp"', 'kind = "os.system"'),
            ('kind = "mlp"', 'kind = "mlp"\nwidth = 1.0'), ('kind = "mlp"', ""),
            ("[4]", "4"), ("[4]", "[4.5]"), ("[4]", '["4"]'), ("[4]", "[[4]]"), ("[4]", "{}"),
            ("T = 2", "T = 0"), ("T = 2", "T = -1"), ("T = 2", 'T = "2"'), ("T = 2", "T = 2.5"),
            ("T = 2", "T = true"), ("T = 2", "T = 1979-05-27"), ("T = 2", "t = 2"),
            ("T = 2", 'neuron = "if"'), ("T = 2", "neuron = { tau = 0.5 }"),
            ("T = 2", 'neuron = { kind = "if", theta = 0.0 }'),
            ("T = 2", 'neuron = { kind = "if", reset = "firm" }'),
            ("T = 2", 'neuron = { kind = "lif", rule = { kind = "cba" } }'),
            ("T = 2", 'encoder = { kind = "latency", bits = 8 }'),
            ("epochs = 1", "epochs = 0"), ("epochs = 1", "epochs = nan"),
            ("epochs = 1", "epochs = inf"), ("epochs = 1", "epochs = 1e3"),
            ("batch = 256", "batch = 0"), ("batch = 256", "bach = 256"),
            ("batch = 256", 'batch = 256\nprecision = "int4"'),
            ("batch = 256", "batch = 256\nwarmup = 5.0"),
            ("batch = 256", "batch = 256\nclip = -1.0"),
            ('"adam"', '"adagrad"'), ("lr = 0.01", "lr = 0"), ("lr = 0.01", "lr = -1"),
            ("lr = 0.01", "lr = inf"), ("lr = 0.01", 'lr = "fast"'), ("lr = 0.01", "rate = 1"),
        ]
    ),
]  # fmt: skip


def tree(folder):
    return {p: p.stat().st_size for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def assert_refused(run, words, folder):
    before = tree(folder)
    code, _, complaint = run(*words)
    assert code == 2, words
    assert len(complaint.splitlines()) == 1, complaint
    assert complaint.startswith("spikeproof: "), complaint
    assert "Traceback" not in complaint
    assert len(complaint) > 40, complaint
    assert tree(folder) == before, words
    return complaint


def test_data_files(run, tmp_path):
    cases = list(malformed_data(tmp_path))
    assert len(cases) >= 120
    for kind, path in cases:
        assert_refused(run, ["data", "check", path, "--format", kind], tmp_path)


def test_recipes(run, tmp_path):
    path = tmp_path / "recipe.toml"
    for text in BAD_RECIPES:
        path.write_text(text)
        assert_refused(run, ["train", path, "--out", tmp_path / "run"], tmp_path)
    for blob in (
        b"a = " + b"1" * 5001,
        b"#" * (2 << 20),
        b"\xff\xfe\x00",
        b"\x00" * 64,
        b"a = [" * 5000,
        b'"\\x"=1',
    ):
        path.write_bytes(blob)
        assert_refused(run, ["train", path, "--out", tmp_path / "run"], tmp_path)


def damaged(whole: bytes):
    size = int.from_bytes(whole[:8], "little")
    yield b""
    yield b"\x80\x04K\x01."
    yield b"PK\x03\x04" + bytes(40)
    yield whole[:4]
    yield whole[: 8 + size // 2]
    yield whole[:-1]
    yield whole + b"\x00"
    yield (2**62).to_bytes(8, "little") + whole[8:]
    yield whole[:8] + b"x" + whole[9:]
    yield whole.replace(b'"F32"', b'"F64"', 1)
    yield whole.replace(b"data_offsets", b"data_0ffsets", 1)
    yield save({"a": torch.zeros(3)})
    for place in range(8 + size, len(whole), (len(whole) - size) // 12):
        yield whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :]


def resealed(state: Path):
    """Files whose seal is right and whose content no run has written."""
    with safe_open(state, framework="pt") as file:
        note = json.loads(file.metadata()["spikeproof"])["note"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state.rename(state.with_name("kept"))
    counters = note["counters"]
    first = next(name for name in tensors if name.endswith("weight"))
    for changed, values in [
        ({"counters": None}, {}), ({"counters": []}, {}), ({"run": None}, {}), ({"run": 1}, {}),
        ({"scaler": 1}, {}), ({"counters": counters | {"more": 1}}, {}),
        ({"counters": counters | {"step": -1}}, {}), ({"counters": counters | {"step": "1"}}, {}),
        ({"counters": counters | {"step": 10**30}}, {}), ({"counters": {"step": 1}}, {}),
        ({"counters": counters | {"best_epoch": counters["epoch"] + 1}}, {}),
        ({}, {"stray": torch.zeros(1)}), ({}, {"optimizer/stray": torch.zeros(1)}),
        ({}, {"optimizer/stray/exp_avg": torch.zeros(1)}),
        ({}, {first: torch.full_like(tensors[first], torch.inf)}),
        ({}, {first: torch.full_like(tensors[first], torch.nan)}),
    ]:  # fmt: skip
        content = {key: value for key, value in (note | changed).items() if value is not None}
        _write(state, tensors | values, content)
        yield state.read_bytes()
    state.with_name("kept").replace(state)


def test_checkpoints(run, tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    assert run("train", recipe, "--out", out)[0] == 0
    resume = ["train", recipe, "--out", out, "--resume"]
    state = out / "state.safetensors"
    whole = state.read_bytes()
    cases = list(damaged(whole))
    assert len(cases) >= 20
    for blob in cases:
        state.write_bytes(blob)
        assert_refused(run, resume, tmp_path)
    for blob in resealed(state):
        state.write_bytes(blob)
        assert_refused(run, resume, tmp_path)
    state.write_bytes(whole)
    plan = out / "plan.json"
    written = plan.read_text()
    promise = json.loads(written)
    for text in ("", "{", "[]", "{}", json.dumps(promise | {"samples": 7})):
        plan.write_text(text)
        assert_refused(run, resume, tmp_path)
    plan.write_text(written)
    assert run(*resume)[0] == 0


@pytest.mark.parametrize("word", ["train.epochs", "=1", ".=", "a b", "train.=1", "train.epochs=]"])
def test_overrides(run, tmp_path, word):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    assert_refused(run, ["train", recipe, word, "--out", tmp_path / "run"], tmp_path)


HOSTILE = [
    "model.hidden=[-5]", "model.hidden=[0]", "model.hidden=[1000000000000]",
    f"model.hidden=[{10**30}]", f"model.hidden={[1] * 500}", "model.hidden=[65536, 65536]",
    *(
        f"model={{kind='{kind}', {knob}}}"
        for kind, knobs in {
            "cnn": ["channels=[-1]", "channels=[0]", "hidden=-3", "hidden=0"],
            "vgg11": ["width=nan", "width=inf", "width=1e300", "width=1e9", "width=-1", "width=0"],
            "vgg16": ["width=64", "width=1e-3"],
            "wrn": ["widen=-4", "widen=0", "depth=6000000004", "width=nan"],
            "sew_resnet": ["width=nan", f"depth={10**100}"],
            "spiking_resnet": ["width=-1"],
        }.items()
        for knob in knobs
    ),
    *(
        f"network.neuron={{kind='lif', rule={{{rule}}}}}"
        for rule in [
            "kind='rga', beta=0", "kind='rga', gamma=-1", "kind='assg', rho=-1",
            "kind='assg', beta_mean=1.5", "kind='bptt', surrogate={kind='triangle', gamma=1e200}",
            "kind='bptt', surrogate={kind='exponential', a=1e-200}",
        ]
    ),
    "network.neuron={kind='if', tau=0.2}", "network.neuron={kind='lif', theta=1e300}",
    "network.T=1000000000", "network.T=1979-05-27", "data.name=1979-05-27", "train={}",
    f"train.batch={10**30}", f"train.epochs={10**400}", f"train.save_every={10**30}",
    "train.optimizer.lr=1e300", f"train.optimizer.lr={10**400}", "train.clip=nan",
    "train.optimizer={kind='adam', lr=1, betas=[0.9]}",
    "train.schedule={kind='steps', milestones=[1], factor=1e200}",
    "train.schedule={kind='steps', milestones=[1e308]}", "objective={kind='tet', phi=1e300}",
    "train.seed=" + "1" * 5001, "train.seed=-1", f"train.seed={2**63}",
    "augment.pad=1000000000", f"augment.roll={10**30}", f"augment.cutout={10**30}",
    "data.name=" + "[" * 3000, "data.name=" + "[" * 3000 + "]" * 3000,
    "data.name=" + "[" * 300 + "]" * 300, ".".join("a" * 5000) + "=1", "data.name=" + "x" * 10_000,
    "model.kind=" + "x" * 10_000, "data." + "x" * 10_000 + "=1", "x" * 10_000,
    "train.epochs=1\nx=2", "data.name=\ud800", f"data.limit={10**30}", "data.validation=nan",
]  # fmt: skip


@pytest.mark.parametrize("word", HOSTILE, ids=lambda word: ascii(word[:40]))
def test_hostile_overrides(run, tmp_path, word):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    complaint = assert_refused(run, ["train", recipe, word, "--out", tmp_path / "run"], tmp_path)
    assert len(complaint) < 300 + len(str(tmp_path)), complaint


@pytest.mark.parametrize("name", ["meta", "hpu", "mkldnn", "mps", "xla", "cpu:5", "", "x" * 9999])
def test_devices(run, tmp_path, name):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    words = ["train", recipe, "--device", name, "--out", tmp_path / "run"]
    assert "take cpu or auto" in assert_refused(run, words, tmp_path)
