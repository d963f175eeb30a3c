"""Operations and energy of a network at the terminal, layer by layer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from spikeproof.attacks import fingerprint, identity
from spikeproof.cli._evaluate import Target, load_target
from spikeproof.cli._run import AT_ONCE, Job, samples_of
from spikeproof.cli._terminal import terminal
from spikeproof.data import subset
from spikeproof.energy import TABLES, Operations, live_operations, operations, picojoules
from spikeproof.errors import Refusal, nearest, short
from spikeproof.ir import SUFFIX, unpack
from spikeproof.records import digest
from spikeproof.runtime import Activity, Engine


def energy(
    target: Target, *, limit: int, table: str, as_json: bool, console: Console | None = None
) -> Operations:
    """Counts the operations of a network on test samples and prints them with their energy."""
    console = console or terminal()
    counted, record = measured(
        target, limit=limit, table=table, console=None if as_json else console
    )
    if as_json:
        console.print(json.dumps(record, indent=1, sort_keys=True))
        return counted
    joules, samples = picojoules(counted, table), record["samples"]
    console.print(_layers(counted))
    console.print(
        f"a sample (mean of {samples}): {counted.synaptic:,.0f} accumulations, "
        f"{counted.multiplied:,.0f} multiplications ({counted.analog:,.0f} of sensor values), "
        f"{counted.updates:,.0f} updates of membranes"
    )
    dense = sum(layer.dense for layer in counted.layers if layer.reads != "analog")
    if counted.behind_neurons:
        console.print(
            f"with all weights kept and the same spikes it would be "
            f"{dense / counted.behind_neurons:.2f} times as many behind neurons"
        )
    console.print(
        f"arithmetic alone, {TABLES[table].source}: {joules.total / 1e6:.4g} uJ; analog layers "
        f"{joules.analog / 1e6:.4g}, others {joules.synaptic / 1e6:.4g}, "
        f"membranes {joules.updates / 1e6:.4g}"
    )
    return counted


def measured(
    target: Target, *, limit: int, table: str, console: Console | None = None
) -> tuple[Operations, dict[str, Any]]:
    """Returns the operations of a network on test samples, and the record with their energy."""
    if table not in TABLES:
        raise Refusal(f"--table is {short(table)}; {nearest(table, TABLES)}")
    counted, samples, seals = _counted(target, limit, console)
    return counted, {
        "samples": samples,
        **seals,
        **dataclasses.asdict(counted),
        "picojoules": dataclasses.asdict(picojoules(counted, table)),
        "table": dataclasses.asdict(TABLES[table]),
    }


def _counted(
    target: Target, limit: int, console: Console | None
) -> tuple[Operations, int, dict[str, str]]:
    """Returns the operations, of how many samples, and what tells the network from others."""
    if target.model.endswith(SUFFIX):
        return _packed(Job(Path(target.model), target.data, target.data_dir, limit))
    model, dataset = load_target(target, console)
    test = subset(dataset.test, min(limit, len(dataset.test))) if limit else dataset.test
    x, _ = test.batch(torch.arange(len(test)))
    seals = {"weights_sha256": fingerprint(model), "network_sha256": identity(model)}
    return live_operations(model.eval(), x), len(test), seals


def _packed(job: Job) -> tuple[Operations, int, dict[str, str]]:
    if not job.data:
        raise Refusal(f"{job.file} says nothing of its data; operations need samples; give --data")
    graph = unpack(job.file)
    samples = samples_of(job, graph)
    count = min(job.limit or len(samples), len(samples))
    engine, activity = Engine(graph), Activity()
    for first in range(0, count, AT_ONCE):
        engine(samples.batch(first, min(first + AT_ONCE, count))[0], activity)
    counted = operations(graph, activity.events, activity.samples)
    return counted, count, {"file_sha256": digest(job.file)}


def _layers(counted: Operations) -> Table:
    table = Table("layer", "reads", "kept", "events", "operations", "with all weights")
    for layer in counted.layers:
        table.add_row(
            layer.name,
            layer.reads,
            f"{layer.kept:,}/{layer.weights:,}",
            *(f"{count:,.0f}" for count in (layer.events, layer.operations, layer.dense)),
        )
    return table
