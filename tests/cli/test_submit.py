from __future__ import annotations

import json

import numpy as np
import torch

from spikeproof.data import digits
from spikeproof.evaluate import read_record

FACTORY = """
from spikeproof.models import MLP, Setting, build

def build_it():
    return build(MLP((8,)), Setting(channels=1, size=8, T=2), 3)
"""
SUITE = '[[steps]]\nid = "one"\nattack = {search = {kind = "pgd", steps = 1}}\nlimit = 5\n'


def test_what_others_found_is_judged_and_written_beside_the_record(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_of_submit.py").write_text(FACTORY)
    (tmp_path / "mine.toml").write_text(SUITE)
    words = ("net_of_submit:build_it", "--data", "digits")
    more = ("--limit", 30, "--suite", "mine.toml", "--threat", "linf:0.2", "--device", "cpu")
    assert run("evaluate", *words, *more, "--out", tmp_path / "out")[0] == 0
    record = read_record(tmp_path / "out" / "record.json")
    x, _ = digits().test.batch(torch.tensor(record.data.indices))
    noise = torch.sign(torch.sin(97 * torch.arange(x.numel()))).view_as(x)
    np.savez(tmp_path / "found.npz", x_adv=(x + 0.2 * noise).clamp(0, 1).numpy())
    code, out, said = run("submit", *words, "found.npz", "--record", tmp_path / "out")
    assert code == 0, said
    assert "30 of 30 samples were given" in out
    assert f"{record.robust_accuracy:.2%} before" in out
    there = json.loads((tmp_path / "out" / "submission-found.json").read_text())
    assert there["samples"] == 30
    assert sorted(there["outside"] + there["unconfirmed"] + there["broken"]) <= sorted(
        record.data.indices
    )
    words += ("--record", tmp_path / "out")
    code, out, _ = run("submit", *words[:3], "found.npz", *words[3:], "--json")
    assert code == 0
    again = json.loads((tmp_path / "out" / "submission-found-2.json").read_text())
    assert json.loads(out) == again == there
    code, _, said = run("submit", *words[:3], "none.npz", *words[3:])
    assert (code, said.count("\n")) == (2, 0)
    assert "none.npz" in said
