"""A packed network on test samples; torch is imported only for sets that need its readers."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from spikeproof.cli._terminal import terminal
from spikeproof.energy import metrics, operations
from spikeproof.errors import Refusal
from spikeproof.ir import Graph, unpack
from spikeproof.runtime import Activity, Engine, Samples, can_read, read_samples

AT_ONCE = 64  # samples in memory; changes no result


@dataclass(frozen=True)
class Job:
    """What is run, as the command line names it."""

    file: Path
    data: str
    data_dir: Path = Path("data")
    limit: int = 0
    execution: str = "auto"
    threads: int = 0


def run(job: Job, *, as_json: bool, console: Console | None = None) -> dict[str, Any]:
    """Runs a packed network, prints accuracy, operations and bytes, and returns them."""
    console = console or terminal()
    graph = unpack(job.file)
    samples = samples_of(job, graph)
    count = min(job.limit or len(samples), len(samples))
    engine = Engine(graph, job.execution, job.threads or None)
    right, activity = 0, Activity()
    for first in range(0, count, AT_ONCE):
        x, y = samples.batch(first, min(first + AT_ONCE, count))
        right += int((engine(x, activity).argmax(1) == y).sum())
    record = _record(job, graph, activity, right / count)
    if as_json:
        console.print(json.dumps(record, indent=1, sort_keys=True))
    else:
        _report(console, record)
    return record


def samples_of(job: Job, graph: Graph) -> Samples:
    """Returns test samples that fit a network."""
    if can_read(job.data):
        samples = read_samples(job.data, job.data_dir)
    else:
        from spikeproof.data import load

        test = load(job.data, job.data_dir, steps=graph.input.steps).test
        samples = Samples(test.x.numpy(), test.y.numpy(), test.scale)
    if not len(samples):
        raise Refusal(f"{job.data} has no test samples; accuracy needs some; take another set")
    if (top := int(samples.y.max())) >= graph.classes:
        raise Refusal(
            f"{job.data} has the label {top} and the network {graph.classes} classes; they must "
            "fit; take the set that the network was trained on"
        )
    return samples


def _record(job: Job, graph: Graph, activity: Activity, accuracy: float) -> dict[str, Any]:
    counted = operations(graph, activity.events, activity.samples)
    spikes = sum(activity.spikes.values()) / activity.samples
    size = job.file.stat().st_size
    return {
        "file": job.file.name,
        "data": job.data,
        "samples": activity.samples,
        "accuracy": accuracy,
        "bytes": size,
        "weights": {"kept": graph.kept, "of": graph.size},
        "spikes": spikes,
        "operations": {
            "synaptic": counted.synaptic,
            "multiplied": counted.multiplied,
            "analog": counted.analog,
            "updates": counted.updates,
        },
        "metrics": dataclasses.asdict(metrics(counted, spikes, size)),
        "by_events": {
            layer.name: activity.by_events[place] / activity.samples
            for layer, place in zip(counted.layers, graph.weighted, strict=True)
        },
    }


def _report(console: Console, record: dict[str, Any]) -> None:
    counted, weights = record["operations"], record["weights"]
    event_driven = np.mean(list(record["by_events"].values())) if record["by_events"] else 0.0
    console.print(
        f"{record['data']}: {record['accuracy']:.2%} of {record['samples']} test samples right"
    )
    console.print(
        f"{counted['synaptic']:,.0f} accumulations for {record['spikes']:,.0f} spikes, "
        f"{counted['multiplied']:,.0f} multiplications, {counted['updates']:,.0f} updates a sample"
    )
    console.print(
        f"{record['bytes']:,} bytes; {weights['kept']:,} of {weights['of']:,} weights kept; "
        f"{event_driven:.0%} of the layers ran event by event"
    )
