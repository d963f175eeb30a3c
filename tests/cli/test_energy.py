from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from spikeproof.attacks import fingerprint
from spikeproof.cli._evaluate import load_model
from tests.cli.test_export import factory

__all__ = ["factory"]


def test_a_model_and_its_packed_file_cost_the_same(factory, run):
    run("export", factory, "net.spkp", "--shape", "1x8x8")
    shown = []
    for model in (factory, "net.spkp"):
        code, out, _ = run("energy", model, "--data", "digits", "--limit", 40, "--json")
        assert code == 0
        shown.append(json.loads(out))
    live, packed = shown
    assert packed["file_sha256"] == hashlib.sha256(Path("net.spkp").read_bytes()).hexdigest()
    assert live["weights_sha256"] == fingerprint(load_model(str(factory)))
    for record in shown:
        assert record["samples"] == 40
        assert record["picojoules"]["updates"] == pytest.approx(16 * 0.9)
        # Which samples: a live net takes classes in proportion, a packed one the first.
        assert [layer["reads"] for layer in record["layers"]] == ["analog", "spikes"]
        assert record["updates"] == 16


def test_the_table_is_shown_and_chosen(factory, run):
    code, out, _ = run("energy", factory, "--data", "digits", "--limit", 10, "--table", "int8")
    assert code == 0
    assert "ISSCC 2014" in out
    assert "updates of membranes" in out
    for words, word in (
        ((factory, "--data", "digits", "--table", "fp3"), "fp32"),
        (("absent.spkp", "--data", "digits"), "no file"),
        (("absent.spkp",), "--data"),
    ):
        code, _, complaint = run("energy", *words)
        assert code == 2
        assert word in complaint
