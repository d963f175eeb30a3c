from __future__ import annotations

import pytest
from rich.console import Console

from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.catalogue import load_network, read_recipe
from spikeproof.cli._certify import method_of
from spikeproof.cli._train import train
from spikeproof.data import digits
from spikeproof.evaluate import (
    CROWN,
    IBP,
    Conditions,
    RateCoding,
    Smoothing,
    Step,
    Suite,
    evaluate,
    read_certificate,
)

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli")
    recipe = out / "tiny.toml"
    recipe.write_text(RECIPE)
    train(read_recipe(recipe), out / "run", out, console=Console(quiet=True))
    return out / "run"


def test_bounds_are_printed_written_and_compared_with_attacks(run, folder, tmp_path):
    words = ("--threat", "linf:0.003", "--limit", 16, "--device", "cpu")
    suite, data = Suite("pgd", (Step("pgd", Attack(PGD(3))),)), digits()
    few = Conditions(limit=16)
    evaluate(
        load_network(folder),
        data,
        Linf(0.003),
        suite,
        out=tmp_path / "e",
        conditions=few,
        checks=(),
    )
    code, said, complaint = run(
        "certify", folder, *words, "--out", tmp_path / "c", "--against", tmp_path / "e"
    )
    assert (code, complaint) == (0, "")
    record = read_certificate(tmp_path / "c" / "record.json")
    assert record.method == {"kind": "ibp"}
    assert [(check.id, check.verdict) for check in record.checks] == [("sandwich", "pass")]
    for words in ("method ibp", "certified accuracy", "sandwich: pass, certified "):
        assert words in said, words
    assert said.endswith("record.json")
    words = ("--threat", "linf:0.003", "--limit", 16, "--device", "cpu", "--resume", "--quiet")
    code, told, _ = run("certify", folder, *words, "--out", tmp_path / "c")
    assert (code, told[:15]) == (0, "clean accuracy ")


def test_votes_have_a_radius(run, folder, tmp_path):
    words = ("--method", "smoothing", "--sigma", 0.1, "--draws", 100, "--threat", "l2:0.05")
    code, said, _ = run(
        "certify", folder, *words, "--limit", 4, "--out", tmp_path / "c", "--device", "cpu"
    )
    assert code == 0
    assert "mean radius" in said
    assert len(read_certificate(tmp_path / "c" / "record.json").radius) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "ibb"), "did you mean 'ibp'?"),
        (("--threat", "l2:0.1"), "bounds are known of"),
        (("--method", "smoothing"), "its radius is one in l2"),
        (("--method", "smoothing", "--sigma", "-1"), "sigma is -1.0"),
        (("--method", "rate_coding", "--threat", "l1:0.1"), "the encoder of"),
        (("--against", "nowhere.json"), "it must exist"),
    ],
    ids=str,
)
def test_misuse_is_one_sentence_and_exit_code_2(run, folder, tmp_path, words, told):
    code, _, complaint = run("certify", folder, *words, "--limit", 2, "--out", tmp_path / "c")
    assert code == 2
    assert told in complaint
    assert len(complaint.splitlines()) == 1


def test_a_method_has_the_knobs_that_are_its_own():
    assert method_of("ibp", 0.5, 10, 0.1) == IBP()
    assert method_of("crown", 0.5, 10, 0.1) == CROWN()
    assert method_of("smoothing", 0.5, 10, 0.1) == Smoothing(0.5, n=10, alpha=0.1)
    assert method_of("rate_coding", 0.5, 10, 0.1) == RateCoding(n=10, alpha=0.1)
