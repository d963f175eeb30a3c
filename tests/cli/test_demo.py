from __future__ import annotations

from spikeproof.cli import _demo


def test_demos_are_numbered_and_the_last_one_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(_demo._folder(resume=False)) == str(_demo._folder(resume=True)) == "runs/demo"
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    assert str(_demo._folder(resume=False)) == "runs/demo-2"
    assert str(_demo._folder(resume=True)) == "runs/demo"
    (tmp_path / "runs" / "demo-2").mkdir()
    assert str(_demo._folder(resume=False)) == "runs/demo-3"
    assert str(_demo._folder(resume=True)) == "runs/demo-2"


def test_the_demo_trains_and_tells(tmp_path, monkeypatch, capsys):
    from spikeproof.catalogue import read_recipe

    monkeypatch.setattr(_demo, "read_recipe", lambda path: read_recipe(path, ["train.epochs=3"]))
    _demo.demo(tmp_path / "run", device="cpu")
    said = " ".join(capsys.readouterr().out.split())
    assert "test accuracy" in said
    assert "3,200 neurons fired" in said
    assert (tmp_path / "run" / "record.json").exists()
