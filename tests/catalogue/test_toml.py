from __future__ import annotations

import os

import pytest

from spikeproof.catalogue._toml import LARGEST, read_toml
from spikeproof.errors import Refusal


def test_tables_are_read(tmp_path):
    (tmp_path / "a.toml").write_text("[a]\nb = [1, 2.5]")
    (tmp_path / "link.toml").symlink_to("a.toml")
    for name in ("a.toml", "link.toml"):
        assert read_toml(tmp_path / name) == {"a": {"b": [1, 2.5]}}


def test_what_is_no_small_file_is_refused(tmp_path):
    """A pipe would be waited for, /dev/zero has no end, and a recipe has no megabytes."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("#" * (LARGEST + 1))
    for path in (tmp_path / "pipe", tmp_path / "large", tmp_path, "/dev/zero"):
        with pytest.raises(Refusal, match="no regular file of at most 1 MiB"):
            read_toml(tmp_path / path)
    (tmp_path / "large").write_text("#" * LARGEST)
    assert read_toml(tmp_path / "large") == {}


@pytest.mark.parametrize("text", ["a = " + "1" * 5001, "a = " + "[" * 5000, "a = = 1", "[a"])
def test_what_cannot_be_parsed_is_refused(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(Refusal, match="is not TOML"):
        read_toml(tmp_path / "a.toml")


def test_a_link_to_itself_is_an_error_of_the_system(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        read_toml(tmp_path / "loop")
