"""Fails by name where a ratio got worse: python -m benchmarks.compare OLD NEW [--allow 0.1].

Of all ``ratios`` less is better. One that is gone is worse than any; figures of another processor
or another number of threads are not compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikeproof import records

ALIKE = ("processor", "device", "threads", "cores")


def worse(old: dict[str, Any], new: dict[str, Any], allow: float) -> Iterator[str]:
    """Yields a line for each ratio that is gone or got worse by more than the share ``allow``."""
    for name, before in old["ratios"].items():
        now = new["ratios"].get(name)
        if now is None:
            yield f"{name}: {before:.4g} before, gone now"
        elif now > before + allow * abs(before):
            yield f"{name}: {before:.4g} before, {now:.4g} now, {now / before - 1:+.0%}"


def unlike(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Yields why two records cannot be compared."""
    for record in (old, new):
        if not record.get("ratios"):
            yield "a record has no ratios"
        if not record.get("whole", True):
            yield "a record is a part of a run"
    if old["kind"] != new["kind"]:
        yield f"they are of kind {old['kind']} and {new['kind']}"
    for key in ALIKE:
        before, now = (record["environment"].get(key) for record in (old, new))
        if before != now:
            yield f"{key}: {before} before, {now} now"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--allow", type=float, default=0.1, help="a share; 0.1 is 10 %%")
    given = parser.parse_args()
    old, new = (records.read_json(path) for path in (given.old, given.new))
    if reasons := list(unlike(old, new)):
        parser.exit(2, f"not comparable: {'; '.join(reasons)}\n")
    lines = list(worse(old, new, given.allow))
    print("\n".join(lines) or f"{len(old['ratios'])} ratios, none worse by over {given.allow:.0%}")
    sys.exit(bool(lines))
