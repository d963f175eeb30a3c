"""A run folder: one process at a time, one plan for ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikeproof.errors import Refusal
from spikeproof.records import LOCK, differences, held, read_json, write_json
from spikeproof.training._checkpoint import MODEL, SPEC, STATE
from spikeproof.training._metrics import CURVES, METRICS

PLAN = "plan.json"
RECORD = "record.json"  # what the command line writes when all is done
FILES = (PLAN, STATE, MODEL, SPEC, METRICS, CURVES, RECORD)


@contextmanager
def claimed(folder: Path, promise: Mapping[str, Any], *, resume: bool) -> Iterator[str]:
    """Holds ``folder`` for a run of ``promise``, new or resumed; the value is the run's digest."""
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is a file; a run needs a folder; choose another --out")
    if resume and not (folder / LOCK).exists():
        raise Refusal(f"{folder} holds no run; there is nothing to resume; leave out --resume")
    promise = _resolved(promise)
    _check_free(folder, resume=resume)
    with held(folder):
        _keep_promise(folder, promise, resume=resume)
        try:
            yield hashlib.sha256((folder / PLAN).read_bytes()).hexdigest()
        except Refusal:
            _leave_nothing(folder)
            raise


def _resolved(promise: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(promise, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Refusal(
            f"the spec of the run cannot be written as JSON ({error}); it must be made of finite "
            "numbers, texts, lists and dicts; convert the rest"
        ) from None


def _keep_promise(folder: Path, promise: Mapping[str, Any], *, resume: bool) -> None:
    _check_free(folder, resume=resume)
    for name in FILES:
        for part in folder.glob(f".{name}.*.part"):
            part.unlink()
    if not (folder / PLAN).exists():
        write_json(folder / PLAN, promise)
        return
    for key, old, new in differences(read_json(folder / PLAN), promise):
        raise Refusal(
            f"{key} was {old} when the run in {folder} began and is {new} now; a resumed run keeps "
            "its plan; set it back or start a new run in another --out"
        )


def _check_free(folder: Path, *, resume: bool) -> None:
    there = [name for name in FILES if (folder / name).exists()]
    if there and not resume:
        raise Refusal(
            f"{folder} already holds a run ({there[0]}); runs are never overwritten; "
            "continue it with --resume or choose another --out"
        )


def _leave_nothing(folder: Path) -> None:
    """Lets a corrected command begin where one was refused before it had anything to keep."""
    if (folder / STATE).exists():
        return
    for name in (PLAN, METRICS, LOCK):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
