"""What is read of a path: a regular file, whole, and no more of a packed one than it promised."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from io import BufferedIOBase
from pathlib import Path

from spikeproof.errors import Refusal

DEFLATE_RATIO = 1032  # no deflate stream grows by more
CHUNK = 1 << 20


def file_size(path: Path) -> int:
    """Returns the size of a regular file that is not empty."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "missing or not a regular file"
        raise Refusal(f"{path} is {what}; a data file is needed here; check the path")
    if not (size := path.stat().st_size):
        raise Refusal(f"{path} is empty; a data file has content; take a complete copy")
    return size


def read_whole(path: Path) -> bytes:
    """Returns the content of a regular file that is not empty."""
    file_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}; check its rights") from None


def digest(path: Path, algorithm: str) -> str:
    """Returns the hexadecimal checksum of a file."""
    file_size(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def read_packed(path: Path, file: BufferedIOBase, count: int) -> bytes:
    """Returns the next ``count`` bytes of a stream, which must be all that it holds."""
    found = bytearray()
    while len(found) <= count and (part := unpack(path, file, min(CHUNK, count + 1 - len(found)))):
        found += part
    if len(found) != count:
        than = "more" if len(found) > count else f"only {len(found)}"
        raise Refusal(
            f"{path} promises {count} bytes after its header and holds {than}; "
            "both must agree; take a complete copy"
        )
    return bytes(found)


def unpack(path: Path, file: BufferedIOBase, count: int) -> bytes:
    """Returns at most ``count`` bytes of a stream that may be damaged."""
    try:
        return file.read(count)
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        raise Refusal(
            f"{path} cannot be unpacked: {error}; it must be a whole gzip file; "
            "take a complete copy"
        ) from None
