from __future__ import annotations

import importlib.util

import torch

from spikeproof.cli._doctor import EXTRAS, doctor


def test_the_doctor_names_versions_and_sets(tmp_path, capsys):
    doctor(tmp_path)
    said = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in said
    assert "data: cifar10" in said
    assert "embedded" in said


def test_a_missing_extra_and_a_missing_compiler_are_named_with_their_remedy(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    doctor(tmp_path)
    said = capsys.readouterr().out
    for _, extra in EXTRAS.values():
        assert f"spikeproof[{extra}]" in said
    assert "not needed" in said
