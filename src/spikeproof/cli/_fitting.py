"""One training at the terminal: a network, a progress bar, what came out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor, nn

from spikeproof.catalogue import Recipe, construct, specify, to_values
from spikeproof.compress import Harp, Hold, Pruning, over_budget
from spikeproof.data import Dataset
from spikeproof.models import prunable_weights
from spikeproof.spiking import Poisson, SpikingNetwork, drawing_from
from spikeproof.training import (
    Objective,
    batches,
    fit,
    load_weights,
    measure,
    penalised,
    save_model,
)
from spikeproof.training import Progress as Step

PRUNED = "pruned"  # within a run folder, the plain network that pruning hands out
MASKS = "masks.safetensors"


def _draws(recipe: Recipe) -> bool:
    return isinstance(recipe.network.encoder, Poisson) or recipe.network.gates is not None


@dataclass(frozen=True)
class Run:
    """What all trainings of a command share."""

    dataset: Dataset
    place: torch.device
    console: Console
    resume: bool


@dataclass(frozen=True)
class Start:
    """How a training begins: what fills its network, and what holds it where it prunes not."""

    fill: Callable[[SpikingNetwork], dict[str, float]] = lambda _: {}
    hold: Hold | None = None


def train_once(
    recipe: Recipe, folder: Path, run: Run, start: Start | None = None
) -> tuple[SpikingNetwork, dict[str, Any]]:
    """Returns the network that validation selected, pruned where the recipe prunes; and figures."""
    dataset, place, method = run.dataset, run.place, recipe.prune
    start, plan = start or Start(), recipe.train
    spec = specify(recipe, dataset)
    model = construct(spec, plan.seed).to(place)
    thresholds = start.fill(model)
    run.console.print(
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation and "
        f"{len(dataset.test)} test samples; {recipe.model.kind} with T = {model.encode.T} and "
        f"{prunable_weights(model)} weights on {place}"
    )
    hold, objective = start.hold, penalised(recipe.objective, recipe.penalties)
    if method is not None:
        method.begin(model, plan.seed)
        per_epoch = len(batches(len(dataset.train), plan, 0))
        hold = method.hold(plan.epochs * per_epoch, plan.epochs, plan.seed)
        objective = _with_budget(objective) if isinstance(method, Harp) else objective
    begun = time.perf_counter()
    with _watched(run.console, plan.epochs) as (watch, closed):
        outcome = fit(
            model,
            dataset.train,
            objective,
            plan,
            folder,
            validate=lambda network: closed(
                measure(_handed_out(network, method), dataset.validation, device=place)
            ),
            spec=to_values(spec),
            augment=recipe.augment,
            per_step=drawing_from if _draws(recipe) else None,
            hold=hold,
            device=place,
            resume=run.resume,
            watch=watch,
        )
    minutes = (time.perf_counter() - begun) / 60
    best = construct(spec)
    result: dict[str, Any] = {}
    if method is not None:
        method.begin(best, plan.seed)
    load_weights(folder, best)
    if method is not None:
        masks = method.end(best)
        save_model(folder / PRUNED, best, to_values(spec))
        masks.save(folder / PRUNED / MASKS)
        result |= {"density": masks.density, "densities": masks.densities}
    best.eval().to(place)
    result |= {
        "steps": outcome.steps,
        "selected_epoch": outcome.best_epoch,
        "validation": measure(best, dataset.validation, device=place),
        "test": measure(best, dataset.test, device=place),
        "minutes_of_training": round(minutes, 2),
    }
    return best, result | ({"calibrated_thresholds": thresholds} if thresholds else {})


def _handed_out(network: nn.Module, method: Pruning | None) -> nn.Module:
    """Returns what pruning would hand out now, which is what has to be good."""
    if method is None:
        return network
    network = copy.deepcopy(network)
    method.end(network)
    return network


def _with_budget(objective: Objective) -> Objective:
    def both(model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        return objective(model, x, y, seed) + over_budget(model)

    return both


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
