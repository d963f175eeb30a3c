from __future__ import annotations

import importlib.util

import torch

from spikeproof.cli._doctor import EXTRAS, doctor
from spikeproof.spiking import kernel, kernel_in_use


def test_the_doctor_names_versions_and_sets(tmp_path, capsys):
    doctor(tmp_path)
    said = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in said
    assert "data: cifar10" in said
    assert "embedded" in said


def test_the_doctor_says_which_kernel_runs_the_neurons(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    doctor(tmp_path)
    assert kernel_in_use() in capsys.readouterr().out
    with kernel("reference"):
        doctor(tmp_path)
    assert "reference (as chosen)" in capsys.readouterr().out


def test_a_missing_extra_is_named_with_its_remedy(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("COLUMNS", "200")
    doctor(tmp_path)
    said = capsys.readouterr().out
    for _, extra in EXTRAS.values():
        assert f"spikeproof[{extra}]" in said
