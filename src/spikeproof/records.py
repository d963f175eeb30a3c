"""What is kept of a run: plain JSON with its environment, written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from spikeproof.errors import Refusal, short

SCHEMA = 1
LOCK = ".lock"
PACKAGES = ("spikeproof", "torch", "numpy", "safetensors", "scikit-learn")
IN_USE = (  # told where they are loaded
    "spikingjelly",
    "snntorch",
    "norse",
    "torchattacks",
    "foolbox",
    "autoattack",
    "pyautoattack",
    "onnxruntime",
    "nir",
)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a neighbour of ``path`` and moves it there in one step.

    Whatever happens (an exception, a full disk, a kill), ``path`` holds its old or its new
    content. Only a kill can leave the neighbour, whose name ends in ``.part``, behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a record; infinite and missing numbers are refused, for JSON has none."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a record back."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"{path} is not a record: {error}; it must be JSON as spikeproof wrote it; "
            "take an unchanged copy or run the command again"
        ) from None
    if not isinstance(value, dict):
        raise Refusal(
            f"{path} holds a {type(value).__name__}; a record is a JSON object; "
            "take an unchanged copy or run the command again"
        )
    return value


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it until the block or the process ends.

    The lock belongs to the open file, so that a kill releases it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(
                f"{folder} is in use; one process works in a folder; wait for the other, end it, "
                "or choose another --out"
            ) from None
        yield


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Returns where two trees of plain values differ: the path, and both values in short."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*new, *old)):
            inner = f"{key}.{name}" if key else name
            if name in old and name in new:
                yield from differences(old[name], new[name], inner)
            else:
                before, now = (short(v[name]) if name in v else "absent" for v in (old, new))
                yield inner, before, now
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True), 1):
            yield from differences(*pair, f"{key}[{number}]")
    elif old != new:
        yield key, short(old), short(new)


def environment() -> dict[str, Any]:
    """Returns what a figure depends on beside the code: versions, processor, operating system."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {
            name: _version(name) for name in (*PACKAGES, *(n for n in IN_USE if n in sys.modules))
        },
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
