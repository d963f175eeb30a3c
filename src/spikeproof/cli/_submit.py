"""Adversarials of others at the terminal: which of them count, and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from spikeproof.catalogue import threat_of
from spikeproof.cli._evaluate import Target, load_target
from spikeproof.cli._flags import file_out
from spikeproof.cli._terminal import terminal
from spikeproof.evaluate import read_record, submit, write_submission


def submit_command(
    target: Target, file: Path, record: Path, out: Path | None, console: Console | None = None
) -> dict[str, Any]:
    """Judges the adversarials of a file against a record; returns what it writes of them."""
    console = console or terminal()
    path = record / "record.json" if record.is_dir() else record
    out = file_out(out, path.with_name(f"submission-{file.stem}.json"))
    told = read_record(path)
    model, dataset = load_target(target, console)
    found = submit(file, told, model, dataset, threat_of(told.threat))
    values = write_submission(out, found, path, file)
    low, high = found.interval
    console.print(
        f"{len(found.given)} of {found.samples} samples were given: {len(found.broken)} are "
        f"broken, {len(found.new)} of which stood in the record; {len(found.outside)} are not "
        f"admissible, {len(found.unconfirmed)} are answered rightly"
    )
    console.print(
        f"worst case {found.robust_accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"{told.robust_accuracy:.2%} before"
    )
    console.print(f"record: {out}")
    return values
