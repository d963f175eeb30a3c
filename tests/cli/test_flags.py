from __future__ import annotations

from pathlib import Path

import pytest

from spikeproof.cli._flags import folder_of, folder_out
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
