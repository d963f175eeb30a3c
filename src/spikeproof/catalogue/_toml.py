"""TOML from a file that somebody named."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

from spikeproof.errors import Refusal

LARGEST = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the tables of a file."""
    # A pipe would be waited for, and a device may have no end.
    if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > LARGEST:
        raise Refusal(
            f"{path} is no regular file of at most 1 MiB; TOML is read from a small text file; "
            "give the path of one"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits
        raise Refusal(f"{path} is not TOML: {error}; correct it there") from None
