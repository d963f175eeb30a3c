"""Recounts what the event suites claim: benchmarks/events.py DATA [RUNS].

Trains the recipes of event frames (or takes their run folders from RUNS, where they are kept),
runs the named suites on test recordings, and has every adversarial counted by the verifier of the
tests, which shares no code with the package. Relaxed numbers are of inputs that no sensor delivers.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof import records
from spikeproof.attacks import (
    Flips,
    RelaxedLinf,
    Retiming,
    Threat,
    correct,
    run,
    under_attack,
)
from spikeproof.catalogue import load_network, read_data, read_recipe, to_values
from spikeproof.cli._train import train
from spikeproof.evaluate import Step, named_suite
from spikeproof.seeding import derive

HOUSE = Path(__file__).parents[1]
BUDGETS = {"event-digits-cnn": (50, 50), "n-mnist-cnn": (200, 200)}  # flips, packets
SAMPLES, BATCH = 24, 16


def verifier() -> Any:
    """Returns the module of the tests that counts from scratch."""
    path = HOUSE / "tests" / "oracles" / "event_feasibility.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(oracle: Any, threat: Threat, new: np.ndarray, old: np.ndarray) -> tuple[bool, int]:
    """Returns whether the threat allows a change, and how many events it adds, removes or moves.

    Of a relaxed change it is the number of entries that differ.
    """
    if isinstance(threat, RelaxedLinf):
        near = np.abs(new.astype(float) - old).max() <= threat.eps + 1e-6
        inside = new.min() >= threat.low and new.max() <= threat.high
        return bool(near and inside), int((new != old).sum())
    if isinstance(threat, Retiming):
        sizes = oracle.retimed(new, old)
        return bool(sizes and sizes[threat.limits] <= threat.budget), sizes["b0"] if sizes else 0
    events = oracle.changes(new, old, threat.binary)
    return events is not None and events <= threat.k, events or 0


def suites(name: str, x: Tensor, classes: int) -> Iterator[tuple[str, Threat, tuple[Step, ...]]]:
    """Yields the threats of a recipe, and the steps that each meets."""
    flips, packets = BUDGETS[name]
    shape, flipping = tuple(x.shape[1:]), Flips(flips, bool(x.max() <= 1))
    for threat in (flipping, Retiming(1, "binf"), Retiming(packets, "b0")):
        yield "standard", threat, named_suite("standard", threat, classes, shape).steps
    relaxed = RelaxedLinf(1.0, high=float(x.max()) + 1)
    yield "smoke", relaxed, named_suite("smoke", relaxed, classes, shape).steps


def conducted(
    oracle: Any, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, steps: tuple[Step, ...]
) -> dict[str, Any]:
    """Returns what every step broke, as the verifier counts it."""
    right = correct(model(x), y)
    standing, rows = right.clone(), []
    for step in steps:
        met = (right if step.everyone or not step.counts else standing).nonzero().squeeze(1)
        used, changed, begun = step.threat or threat, [], time.process_time()
        args = {"threat": used, "seed": derive(0, step.id)}
        found = [
            (part, run(step.attack, model, x[part], y[part], ids=part, **args))
            for part in (met.split(BATCH) if len(met) else ())
        ]
        row = {"id": step.id, "threat": to_values(used), "met": len(met), "broken": 0}
        row |= {"seconds": round(time.process_time() - begun, 1), "infeasible": 0}
        for part, outcome in found:
            fell, x_adv = part[outcome.fallen], outcome.x_adv[outcome.fallen]
            row["broken"] += int((~correct(model(x_adv), y[fell])).sum()) if len(fell) else 0
            for new, old in zip(x_adv.numpy(), x[fell].numpy(), strict=True):
                allowed, events = counted(oracle, used, new, old)
                row["infeasible"] += not allowed
                changed.append(events)
            if step.counts:
                standing[fell] = False
        row |= {"claimed": len(changed), "relaxed": isinstance(used, RelaxedLinf)}
        row |= {"median_changed": median(changed or [0]), "max_changed": max(changed, default=0)}
        rows.append(row | {"forwards": sum(int(outcome.forwards.sum()) for _, outcome in found)})
    return {
        "threat": to_values(threat),
        "relaxed": isinstance(threat, RelaxedLinf),
        "right": int(right.sum()),
        "robust": int(standing.sum()),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "steps": rows,
    }


def measured(name: str, data: Path, runs: Path) -> dict[str, Any]:
    """Returns the table of a recipe."""
    recipe = read_recipe(HOUSE / "recipes" / f"{name}.toml")
    if not (runs / name / "record.json").exists():
        train(recipe, runs / name, data)
    model, test = load_network(runs / name), read_data(recipe, data).test
    x, y = test.batch(torch.linspace(0, len(test) - 1, min(SAMPLES, len(test))).round().long())
    tables, oracle = [], verifier()
    with under_attack(model), torch.no_grad():
        for suite, threat, steps in suites(name, x, int(model(x[:1]).shape[1])):
            tables.append({"suite": suite} | conducted(oracle, model, x, y, threat, steps))
            print(name, threat, {k: v for k, v in tables[-1].items() if k != "steps"}, flush=True)
    return {"recipe": to_values(recipe), "recordings": len(y), "suites": tables}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(sys.argv[2] if len(sys.argv) > 2 else folder)
        nets = {name: measured(name, Path(sys.argv[1]), runs) for name in BUDGETS}
    rows = [row for net in nets.values() for suite in net["suites"] for row in suite["steps"]]
    total = {key: sum(row[key] for row in rows) for key in ("claimed", "broken", "infeasible")}
    record = {"schema": records.SCHEMA, "kind": "events", "total": total, "nets": nets}
    record |= {"environment": records.environment()}
    records.write_json(HOUSE / "benchmarks" / "results" / "events.json", record)
    print(total)
