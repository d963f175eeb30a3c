"""Several trainings in a row, each in a folder of its own; what is done is not done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from spikeproof import records
from spikeproof.catalogue import (
    Recipe,
    handed_over,
    in_stages,
    load_network,
    specify,
    to_values,
)
from spikeproof.cli._fitting import PRUNED, Run, Start, train_once
from spikeproof.compress import Hold, Part, holding
from spikeproof.errors import Refusal
from spikeproof.spiking import SpikingNetwork
from spikeproof.training import save_model

RECORD = "record.json"


def train_in_stages(recipe: Recipe, out: Path, run: Run) -> tuple[SpikingNetwork, dict[str, Any]]:
    """Returns the network of the last stage and the figures of all; its weights are in ``out``."""
    before: tuple[Recipe, SpikingNetwork] | None = None
    dense: tuple[Part, ...] | None = None  # parts that the last pruning left alone, if any was
    results: dict[str, dict[str, Any]] = {}
    for number, (stage, part) in enumerate(in_stages(recipe), 1):
        folder = out / f"{number}-{stage.name}"
        said = f"stage {number}, {stage.name}"
        if run.resume and (folder / RECORD).exists():
            result = _finished(folder, part)
            network = load_network(folder / PRUNED if part.prune else folder).to(run.place)
            run.console.print(f"{said}: done before, {folder}")
        else:
            run.console.print(f"{said}: {folder}")
            going_on = run.resume and (number == 1 or (folder / records.LOCK).exists())
            start = _start(before, part, run, fresh=stage.fresh, hold=_hold(dense))
            network, result = train_once(part, folder, replace(run, resume=going_on), start)
            record = {"recipe": to_values(part), "result": result}
            records.write_json(folder / RECORD, record)
        before = part, network
        dense = dense if part.prune is None else part.prune.dense
        results[stage.name] = result
    save_model(out, network, to_values(specify(part, run.dataset)))
    return network, {**result, "stages": results}


def _hold(dense: tuple[Part, ...] | None) -> Hold | None:
    return None if dense is None else holding(dense=dense)


def _start(
    before: tuple[Recipe, SpikingNetwork] | None,
    part: Recipe,
    run: Run,
    *,
    fresh: bool,
    hold: Hold | None,
) -> Start:
    if before is None:
        return Start()

    def fill(network: SpikingNetwork) -> dict[str, float]:
        return handed_over(before, part, network, run.dataset.train, fresh=fresh)

    return Start(fill, hold)


def _finished(folder: Path, part: Recipe) -> dict[str, Any]:
    """Returns the figures of a stage that is done, if it is the one of the recipe."""
    record = records.read_json(folder / RECORD)
    for key, old, new in records.differences(record["recipe"], to_values(part)):
        raise Refusal(
            f"{key} was {old} in the stage of {folder} and is {new} now; what is done is not done "
            "again; set it back or start a new run in another --out"
        )
    return record["result"]
