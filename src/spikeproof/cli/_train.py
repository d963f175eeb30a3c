"""Training at the terminal: a recipe, a progress bar, a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from spikeproof import records
from spikeproof.catalogue import Recipe, construct, read_data, specify, to_values
from spikeproof.cli._terminal import terminal
from spikeproof.errors import Refusal, short
from spikeproof.models import prunable_weights
from spikeproof.spiking import Poisson, drawing_from, keep_large_blocks
from spikeproof.training import Progress as Step
from spikeproof.training import fit, load_weights, measure, penalised

RECORD = "record.json"


def train(
    recipe: Recipe,
    out: Path,
    root: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Returns the record of the run, which is also written to the run folder."""
    console = console or terminal()
    keep_large_blocks()
    place = pick_device(device)
    dataset = read_data(recipe, root)
    spec = specify(recipe, dataset)
    model = construct(spec, recipe.train.seed)
    console.print(
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation and "
        f"{len(dataset.test)} test samples; {recipe.model.kind} with T = {model.encode.T} and "
        f"{prunable_weights(model)} weights on {place}"
    )
    begun = time.perf_counter()
    with _watched(console, recipe.train.epochs) as (watch, closed):
        outcome = fit(
            model,
            dataset.train,
            penalised(recipe.objective, recipe.penalties),
            recipe.train,
            out,
            validate=lambda network: closed(measure(network, dataset.validation, device=place)),
            spec=to_values(spec),
            augment=recipe.augment,
            per_step=drawing_from if isinstance(recipe.network.encoder, Poisson) else None,
            device=place,
            resume=resume,
            watch=watch,
        )
    minutes = (time.perf_counter() - begun) / 60
    best = construct(spec)
    load_weights(out, best)
    best.eval().to(place)
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
        "result": {
            "steps": outcome.steps,
            "selected_epoch": outcome.best_epoch,
            "validation": measure(best, dataset.validation, device=place),
            "test": measure(best, dataset.test, device=place),
            "minutes_of_training": round(minutes, 2),
        },
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "threads": torch.get_num_threads(),
        "environment": records.environment(),
    }
    records.write_json(out / RECORD, record)
    accuracy = record["result"]["test"]["accuracy"]
    console.print(
        f"test accuracy {accuracy:.2%} on {len(dataset.test)} samples that neither training nor "
        f"selection saw (epoch {outcome.best_epoch} was selected on validation samples)"
    )
    console.print(f"weights, record and metrics: {out}")
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


Watch = Callable[[Step], None]
Closed = Callable[[dict[str, float]], dict[str, float]]


@contextmanager
def _watched(console: Console, epochs: int) -> Iterator[tuple[Watch, Closed]]:
    """Shows steps as a bar in a terminal, and every closed epoch as a line anywhere."""
    last: list[Step] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", pace="")

        def watch(step: Step) -> None:
            last[:] = [step]
            pace = f"loss {step.loss:.3f}, {_pace(step)}"
            name = f"epoch {step.epoch}/{epochs}"
            bar.update(task, description=name, completed=step.step, total=step.steps, pace=pace)

        def closed(metrics: dict[str, float]) -> dict[str, float]:
            said = f"validation accuracy {metrics['accuracy']:.2%}, loss {metrics['loss']:.3f}"
            for step in last:  # none where a run goes on at the end of an epoch
                said = f"epoch {step.epoch}/{epochs}: {said}; {_pace(step)}"
            bar.console.print(said)
            return metrics

        yield watch, closed


def _pace(step: Step) -> str:
    minutes, seconds = divmod(round(step.left), 60)
    return f"{step.rate:,.0f} samples/s, {minutes}:{seconds:02d} left"
