from __future__ import annotations

import json

FACTORY = """
from spikeproof.models import MLP, Setting, build

def build_it():
    return build(MLP((8,)), Setting(channels=1, size=8, T=2), 3)
"""
SUITE = '[[steps]]\nid = "one"\nattack = {search = {kind = "pgd", steps = 2}}\n'


def test_an_exported_network_is_shown_what_broke_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_of_replay.py").write_text(FACTORY)
    (tmp_path / "mine.toml").write_text(SUITE)
    words = ("net_of_replay:build_it", "--data", "digits")
    more = ("--limit", 30, "--suite", "mine.toml", "--threat", "linf:0.2", "--device", "cpu")
    assert run("evaluate", *words, *more, "--out", tmp_path / "out")[0] == 0
    code, _, said = run("export", "net_of_replay:build_it", "net.spkp", "--shape", "1x8x8")
    assert code == 0, said
    asked = ("replay", "net_of_replay:build_it", "net.spkp", "--data", "digits")
    code, out, said = run(*asked, "--record", tmp_path / "out")
    assert code == 0, said
    assert "30 samples: 0 predicted otherwise" in out
    there = json.loads((tmp_path / "out" / "replay-net-spkp.json").read_text())
    assert there["clean"]["samples"] == 30
    code, out, said = run(*asked, "--record", tmp_path / "out", "--json")
    assert code == 0, said
    assert json.loads(out)["exported"] == there["exported"]
    code, _, said = run(
        "replay", *words[:1], "none.onnx", "--data", "digits", "--record", tmp_path / "out"
    )
    assert code == 2
    assert "none.onnx" in said or "onnxruntime" in said
