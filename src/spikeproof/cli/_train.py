"""Training at the terminal: a recipe in one training or several, a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from spikeproof import records
from spikeproof.catalogue import Recipe, read_data, to_values
from spikeproof.cli._fitting import Run, train_once
from spikeproof.cli._stages import RECORD, train_in_stages
from spikeproof.cli._terminal import tell, terminal
from spikeproof.errors import Refusal, short
from spikeproof.spiking import keep_large_blocks


def train(
    recipe: Recipe,
    out: Path,
    root: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Returns the record of the run, which is also written to the run folder.

    A recipe with stages, or one that prunes, leaves a folder for each stage inside of it.
    """
    console = console or terminal()
    keep_large_blocks()
    place = pick_device(device)
    dataset = read_data(recipe, root)
    run = Run(dataset, place, console, resume=resume)
    if recipe.stages or recipe.prune is not None:
        _, result = train_in_stages(recipe, out, run)
    else:
        _, result = train_once(recipe, out, run)
    record = {
        "schema": records.SCHEMA,
        "kind": "training",
        "recipe": to_values(recipe),
        "data": {
            "name": dataset.name,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "test": len(dataset.test),
        },
        "result": result,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "threads": torch.get_num_threads(),
        "environment": records.environment(),
    }
    records.write_json(out / RECORD, record)
    accuracy = record["result"]["test"]["accuracy"]
    tell(
        console,
        f"test accuracy {accuracy:.2%} on {len(dataset.test)} samples that neither training nor "
        f"selection saw (epoch {result['selected_epoch']} was selected on validation samples)",
    )
    tell(console, f"weights, record and metrics: {out}")
    return record


def pick_device(name: str) -> torch.device:
    """Returns the named device, or a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = ["cpu", *["cuda"] * (count > 0), *(f"cuda:{index}" for index in range(count))]
    if name not in usable:
        raise Refusal(
            f"device {short(name)} cannot be used; here it is one of {', '.join(usable)}; "
            "take cpu or auto"
        )
    return torch.device(name)
