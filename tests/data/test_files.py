from __future__ import annotations

import hashlib
import io

import pytest

from spikeproof.data._files import digest, file_size, read_packed, read_whole
from spikeproof.errors import Refusal


def test_whole_files_come_back(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    assert file_size(path) == 3000
    assert read_whole(path) == b"abc" * 1000
    assert digest(path, "md5") == hashlib.md5(b"abc" * 1000).hexdigest()  # noqa: S324


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    for name, word in (("", "a folder"), ("absent", "missing"), ("empty", "is empty")):
        for read in (file_size, read_whole, lambda path: digest(path, "md5")):
            with pytest.raises(Refusal, match=word):
                read(tmp_path / name)


@pytest.mark.parametrize(("count", "word"), [(9, "holds more"), (11, "holds only 10")])
def test_a_stream_must_hold_what_it_promises(tmp_path, count, word):
    assert read_packed(tmp_path, io.BytesIO(b"0123456789"), 10) == b"0123456789"
    with pytest.raises(Refusal, match=word):
        read_packed(tmp_path, io.BytesIO(b"0123456789"), count)
