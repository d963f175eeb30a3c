from __future__ import annotations

import errno
import json
import sys
import types
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.errors import Refusal
from spikeproof.records import (
    differences,
    environment,
    held,
    read_json,
    replace_file,
    write_json,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON))
def test_a_record_comes_back_as_it_went(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("r") / "record.json"
    write_json(path, value)
    assert read_json(path) == value


def test_numbers_that_json_lacks_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "r.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "\xff", '{"a": NaN'])
def test_what_is_no_record_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Refusal, match="record") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_failed_write_keeps_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "r.json"
    write_json(path, {"a": 1})

    def fill_up(part):
        part.write_text('{"a": ')
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(path, fill_up)
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_is_a_record_of_its_own():
    here = environment()
    assert json.loads(json.dumps(here)) == here
    assert here["packages"]["torch"].startswith("2.")
    assert here["cores"] >= 1


def test_the_environment_names_loaded_packages_of_others(monkeypatch):
    assert "foolbox" not in environment()["packages"]
    monkeypatch.setitem(sys.modules, "foolbox", types.ModuleType("foolbox"))
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 1.0")
    assert environment()["packages"]["foolbox"] == "foolbox 1.0"


@given(st.dictionaries(st.text(max_size=3), JSON))
def test_equal_trees_do_not_differ(tree):
    assert list(differences(tree, json.loads(json.dumps(tree)))) == []


def test_differences_say_where_and_both_values():
    assert list(differences([1, 2], [1, 3], "x")) == [("x[2]", "2", "3")]
    assert list(differences({"a": {"b": 1}}, {"a": {}})) == [("a.b", "1", "absent")]
    assert list(differences([1], [1, 2], "x")) == [("x", "[1]", "[1, 2]")]


def test_a_folder_is_held_by_one_at_a_time_and_freed_by_an_exception(tmp_path):
    def second():
        with held(tmp_path / "new"):
            raise KeyError

    with held(tmp_path / "new"), pytest.raises(Refusal, match="is in use"):
        second()
    with pytest.raises(KeyError):
        second()
    with held(tmp_path / "new"):
        pass
