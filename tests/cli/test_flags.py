from __future__ import annotations

from pathlib import Path

import pytest

from spikeproof.cli._flags import file_out, folder_of, folder_out
from spikeproof.errors import Refusal


def test_an_out_is_the_path_as_it_was_typed(tmp_path):
    assert folder_out(None) is None
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("new", "there", "link"):
        assert folder_out(str(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize("out", ["", " ", "loop", "nothing"])
def test_an_out_that_cannot_become_a_folder_is_refused(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("nothing").symlink_to("absent")
    with pytest.raises(Refusal, match="--out"):
        folder_out(out)


def test_what_is_found_out_lies_in_the_run_or_under_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("net.spkp").touch()
    assert folder_of("mine") == Path("mine")
    assert folder_of("net.spkp") == Path("runs/net")
    assert folder_of("package.module:factory") == Path("runs/package.module.factory")


def test_a_file_that_is_there_is_never_written_again(tmp_path):
    usual = tmp_path / "replay.json"
    for name in ("replay.json", "replay-2.json", "replay-3.json"):
        assert file_out(None, usual) == tmp_path / name
        (tmp_path / name).touch()
    assert file_out(tmp_path / "mine.json", usual) == tmp_path / "mine.json"
    with pytest.raises(Refusal, match="never overwritten; name another --out"):
        file_out(usual, usual)
