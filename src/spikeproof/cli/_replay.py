"""An exported network under the adversarials of an evaluation, at the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from spikeproof.catalogue import threat_of
from spikeproof.cli._evaluate import Target, load_target
from spikeproof.cli._flags import file_out
from spikeproof.cli._terminal import terminal
from spikeproof.evaluate import read_record, replay, write_replay


def replay_command(
    target: Target, file: Path, record: Path, out: Path | None, console: Console | None = None
) -> dict[str, Any]:
    """Shows a record's samples and adversarials to an exported file; returns what it writes."""
    console = console or terminal()
    path = record / "record.json" if record.is_dir() else record
    ending = file.suffix.removeprefix(".")
    out = file_out(out, path.with_name(f"replay-{file.stem}-{ending}.json"))
    told = read_record(path)
    model, dataset = load_target(target, console)
    found = replay(path.parent, told, model, dataset, threat_of(told.threat), file)
    values = write_replay(out, found, path, file)
    for name, pair in (("samples", found.clean), ("adversarials", found.adversarial)):
        console.print(
            f"{pair.samples} {name}: {len(pair.differ)} predicted otherwise, {len(pair.ties)} of "
            f"them ties; logits differ by up to {pair.largest:.1e}"
        )
    low, high = found.interval
    console.print(
        f"{len(found.spared)} adversarials that fooled the network do not fool {file.name}; "
        f"accuracy {found.accuracy:.2%}, {told.clean_accuracy:.2%} in the record"
    )
    console.print(
        f"worst case at most {found.robust_accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"{told.robust_accuracy:.2%} in the record; nobody attacked the file itself"
    )
    console.print(f"record: {out}")
    return values
