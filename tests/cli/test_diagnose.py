from __future__ import annotations

import pytest
from rich.console import Console

from spikeproof.catalogue import read_recipe
from spikeproof.cli._train import train
from spikeproof.evaluate import read_diagnosis

RECIPE = """
[model]
kind = "mlp"
hidden = [16]
[network]
T = 2
[train]
epochs = 2
batch = 64
optimizer = { kind = "adam", lr = 0.01 }
"""

FACTORY = """
import torch
from spikeproof.models import MLP, Setting, build

def build_it():
    return build(MLP((8,)), Setting(channels=1, size=8, T=2), 3)

class Deaf(torch.nn.Module):
    def forward(self, x):
        return x.detach().flatten(1)[:, 20:30]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli")
    recipe = out / "tiny.toml"
    recipe.write_text(RECIPE)
    train(read_recipe(recipe), out / "run", out, console=Console(quiet=True))
    return out / "run"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets_to_diagnose.py").write_text(FACTORY)
    return tmp_path


def test_what_is_measured_is_printed_and_written(run, folder, tmp_path):
    words = ("--threat", "linf:0.1", "--limit", 4, "--out", tmp_path / "d", "--device", "cpu")
    parts = ("--part", "trail", "--part", "vulnerability", "--part", "landscape")
    code, said, complaint = run(
        "diagnose", folder, *words, *parts, "--part", "domains", "--rule", "own", "--rule", "bptr"
    )
    assert (code, complaint) == (0, "")
    record = read_diagnosis(tmp_path / "d" / "record.json")
    assert record.rules == ("own gradient", "BPTR()")
    assert record.curves == ()
    for words in (
        "digits: 4 of 359 test samples",
        "clean: accuracy",
        "attacked: accuracy",
        "spikes per neuron and step: layers.3 ",
        "gradient by BPTR: exact zeros",
        "input (input): ",
        "smooth forward, own gradient, eps 0.0125: median ratio",
        "real forward, BPTR, eps 0.1: median ratio",
        "gradient and differences of 0.1 agree in",
        "same attack, eps 0.1: ",
    ):
        assert words in said, words
    assert said.endswith("record.json")


def test_a_run_is_resumed_and_never_overwritten(run, folder, tmp_path):
    words = ("--limit", 2, "--part", "trail", "--out", tmp_path / "d", "--device", "cpu")
    assert run("diagnose", folder, *words)[0] == 0
    before = (tmp_path / "d" / "record.json").read_bytes()
    code, _, complaint = run("diagnose", folder, *words)
    assert code == 2
    assert "--resume" in complaint
    assert run("diagnose", folder, *words, "--resume")[0] == 0
    assert (tmp_path / "d" / "record.json").read_bytes() == before


def test_a_network_without_a_gradient_says_so(run, here):
    words = ("--data", "digits", "--limit", 3, "--device", "cpu")
    parts = ("--part", "trail", "--part", "landscape")
    code, said, _ = run("diagnose", "nets_to_diagnose:Deaf", *words, *parts)
    assert code == 0
    assert "note: Deaf has no layer of spikeproof's neurons" in said
    assert "note: trail clean 0: no gradient enters Deaf" in said
    assert "spikes per neuron and step: unknown" in said
    assert (here / "runs" / "nets_to_diagnose.Deaf" / "diagnosis" / "record.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "is no run folder, no packed file and no package.module:factory"),
        (("nets_to_diagnose:build_it",), "give --data"),
        (("nets_to_diagnose:build_it", "--rule", "asg"), "did you mean 'assg'"),
        (("nets_to_diagnose:build_it", "--data", "digits", "--part", "x"), "is no part"),
        (("nets_to_diagnose:build_it", "--data", "digits", "--threat", "linf:8"), "mean 8/255"),
        (("nets_to_diagnose:build_it", "--data", "digits", "--limit", "400"), "400 samples"),
        (("nets_to_diagnose:build_it", "--data", "digits", "--resume"), "nothing to resume"),
    ],
)
def test_what_cannot_be_diagnosed_costs_one_sentence(run, here, words, said):
    code, _, complaint = run("diagnose", *words)
    assert code == 2
    assert said in complaint
    assert complaint.count("\n") == 0
