"""What a training step of each defence costs beside natural training: python -m benchmarks.costs.

The recipes of `defences`, a step of each in turn in one process; ratios are medians of pairs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks._timing import RESULTS, Step, Values, paired, record, timed
from benchmarks.defences import DEFENCES, FIELDS, recipe_of

from spikeproof import records, seeding
from spikeproof.catalogue import Recipe, construct, read_data, specify
from spikeproof.data import Dataset
from spikeproof.spiking import drawing_from, keep_large_blocks
from spikeproof.training import penalised
from spikeproof.training._descent import descent

NATURAL = "natural-average"


def step_of(recipe: Recipe, data: Dataset) -> Step:
    """Returns a training step on the first batch, data and augmentation left out."""
    plan = recipe.train
    model = construct(specify(recipe, data), 0).train()
    objective = penalised(recipe.objective, recipe.penalties)
    optimizer = descent(plan.optimizer, [*model.parameters()])
    x, y = data.train.batch(torch.arange(plan.batch))
    done = [0]

    def step() -> None:
        noise = seeding.generator(0, "noise", done[0])
        view = drawing_from(model, noise) if recipe.network.gates else model
        optimizer.zero_grad(set_to_none=True)
        objective(view, x, y, seeding.derive(0, "objective", done[0])).backward()
        optimizer.step()
        for number, retract in enumerate(plan.retractions):
            retract(model, seeding.generator(0, "retraction", number, done[0]))
        done[0] += 1

    return step


def costs(name: str, root: Path, rounds: int, only: Sequence[str] = DEFENCES) -> Values:
    """Returns the seconds of steps, and natural training's in units of each."""
    data = read_data(recipe_of(name, NATURAL, 0), root)
    steps = {defence: step_of(recipe_of(name, defence, 0), data) for defence in only}
    rows: dict[str, Values] = {defence: {"seconds": []} for defence in steps}
    for turn in range(rounds + 2):
        for defence, step in steps.items():
            seconds = timed(step, "cpu")
            if turn > 1:  # the first compile and find their memory
                rows[defence]["seconds"].append(seconds)
    return paired(rows, NATURAL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    given = parser.parse_args()
    keep_large_blocks()
    sets = ["digits"] if given.quick else [*FIELDS]
    rounds = 1 if given.quick else given.rounds
    kept = record("training costs", "cpu", sets={n: costs(n, given.data, rounds) for n in sets})
    for name, rows in kept["sets"].items():
        shown = (f"{d} {1 / row[f'{NATURAL} / this']['median']:.2f}" for d, row in rows.items())
        print(name, ", ".join(shown))
    if not given.quick:
        records.write_json(RESULTS / "training-costs-cpu.json", kept)
