"""A packed network on test samples; torch is imported for what needs it, and not before.

That is a set that needs its readers, and a network that the packed one is compared with.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from spikeproof.cli._terminal import terminal
from spikeproof.energy import metrics, operations
from spikeproof.errors import Refusal
from spikeproof.ir import Graph, node_bytes, unpack
from spikeproof.records import digest
from spikeproof.runtime import (
    ROUNDING,
    TOLERANCE,
    Activity,
    Agreement,
    Engine,
    Samples,
    agreement,
    can_read,
    read_samples,
)

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
    against: str = ""  # the network that it was made of


Answers = Callable[[np.ndarray], np.ndarray]


def run(job: Job, *, as_json: bool, console: Console | None = None) -> dict[str, Any]:
    """Runs a packed network, prints accuracy, operations and bytes, and returns them.

    Compared with the network that it was made of, it is refused unless all that differs is a tie.
    """
    console = console or terminal()
    graph = unpack(job.file)
    samples = samples_of(job, graph)
    count = min(job.limit or len(samples), len(samples))
    engine = Engine(graph, job.execution, job.threads or None)
    right, activity, found = 0, Activity(), Agreement()
    wanted = _answers_of(job.against) if job.against else None
    for first in range(0, count, AT_ONCE):
        x, y = samples.batch(first, min(first + AT_ONCE, count))
        logits = engine(x, activity)
        right += int((logits.argmax(1) == y).sum())
        if wanted is not None:
            found += agreement(graph, x, logits, wanted(x))
    record = _record(job, graph, activity, right / count)
    record |= {"agreement": dataclasses.asdict(found)} if job.against else {}
    if as_json:
        console.print(json.dumps(record, indent=1, sort_keys=True))
    else:
        _report(console, record)
    if not found.whole:
        raise Refusal(
            f"{found.unexplained} of {count} samples have logits up to {found.farthest:.2g} from "
            f"those of {job.against} and no membrane on its threshold; a packed network answers "
            "as the one that it was made of; name that one, or export it again in fp32"
        )
    return record


def _answers_of(name: str) -> Answers:
    """Returns what gives the logits of a network of torch."""
    import torch

    from spikeproof.cli._evaluate import load_model

    model = load_model(name).eval()

    def answers(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = model(torch.from_numpy(x)).cpu().numpy()
        return logits

    return answers


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
    size, each = job.file.stat().st_size, node_bytes(job.file)
    return {
        "file": job.file.name,
        "file_sha256": digest(job.file),
        "data": job.data,
        "samples": activity.samples,
        "accuracy": accuracy,
        "bytes": size,
        "weights": {"kept": graph.kept, "of": graph.size},
        "layers": [
            {"name": layer.name, "kept": layer.kept, "weights": layer.weights, "bytes": each[place]}
            for layer, place in zip(counted.layers, graph.weighted, strict=True)
        ],
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
    if "agreement" in record:
        of = record["agreement"]
        near = of["samples"] - of["ties"] - of["unexplained"]
        console.print(
            f"logits within {TOLERANCE:g} of the network's for {near:,} of {of['samples']:,} "
            f"samples; {of['ties']:,} more are ties, with a membrane on its threshold to "
            f"{ROUNDING:g} of it; {of['predictions']:,} predictions differ"
        )
