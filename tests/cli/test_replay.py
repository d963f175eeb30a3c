from __future__ import annotations

import json

from spikeproof.evaluate import read_record

RECIPE = """
data = { name = "digits" }
model = { kind = "mlp", hidden = [32] }
network = { T = 2 }
train = { epochs = 3, batch = 64, optimizer = { kind = "adam", lr = 0.01 } }
"""
SUITE = '[[steps]]\nid = "one"\nattack = {search = {kind = "pgd", steps = 2}}\n'


def test_an_exported_network_is_shown_what_broke_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    (tmp_path / "mine.toml").write_text(SUITE)
    assert run("train", "small.toml", "--out", "net", "--device", "cpu")[0] == 0
    words = ("--limit", 30, "--suite", "mine.toml", "--threat", "linf:0.1", "--device", "cpu")
    assert run("evaluate", "net", *words, "--out", "out")[0] == 0
    record = read_record(tmp_path / "out" / "record.json")
    broken = sum(record.clean) - sum(record.robust)
    assert 0 < broken < sum(record.clean)
    assert run("export", "net", "net.spkp")[0] == 0
    asked = ("replay", "net", "net.spkp", "--record", "out")
    code, out, said = run(*asked)
    assert code == 0, said
    assert "30 samples: 0 predicted otherwise" in out
    assert f"{broken} adversarials: 0 predicted otherwise" in out
    assert f"worst case at most {record.robust_accuracy:.2%}" in out
    there = json.loads((tmp_path / "out" / "replay-net-spkp.json").read_text())
    assert (there["clean"]["samples"], len(there["fooled"]), there["spared"]) == (30, broken, [])
    code, out, said = run(*asked, "--json")
    assert code == 0, said
    assert json.loads(out)["exported"] == there["exported"]
    code, _, said = run("replay", "net", "none.onnx", "--record", "out")
    assert code == 2
    assert "none.onnx" in said or "onnxruntime" in said
