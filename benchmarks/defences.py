"""Every defence on one network, and what is left of it: python -m benchmarks.defences [SET ...].

A row is one defence, one set and one seed: trained as its recipe says, judged by `standard` with
all its doubts and by the nineteen gradients of `ensemble19`, explained by gradient and firing. A
row that lies in benchmarks/results/defences under the same recipe, threat and samples is kept, and
a killed one goes on where it ended, so the same command makes the whole table and ends it.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from benchmarks._nets import Field, fitted, kept

from spikeproof import records
from spikeproof.attacks import Linf
from spikeproof.catalogue import Recipe, read_recipe, to_values
from spikeproof.data import Dataset
from spikeproof.evaluate import Conditions, Record, evaluate, trail, vulnerability
from spikeproof.spiking import SpikingNetwork, keep_large_blocks, recorded

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "defences"
EXPLAINED = 64  # samples whose gradient is looked at
DRAWS = 64  # of noise around each of them
Values = dict[str, Any]


DEFENCES = (
    "natural-max",
    "natural-average",
    "sr",
    "adversarial",
    "trades",
    "mart",
    "rat",
    "sr-adversarial",
    "stog",
    "tgo",
)


FIELDS = {
    "digits": Field(0.05, 5),
    "fashion-mnist": Field(0.05, 2),
    "cifar10": Field(4 / 255, 1),
}


def recipe_of(name: str, defence: str, seed: int) -> Recipe:
    """Returns the recipe of a row."""
    stem = f"{name}-{defence}".removesuffix("-average")
    return read_recipe(ROOT / "recipes" / f"{stem}.toml", [f"train.seed={seed}"])


def promise(name: str, defence: str, seed: int) -> Values:
    """Returns what decides a row; another promise is another row."""
    field = FIELDS[name]
    recipe = to_values(recipe_of(name, defence, seed))
    return {
        "recipe": recipe,
        "threat": to_values(Linf(field.eps)),
        "samples": field.samples,
    }


def made(path: Path, promised: Values) -> bool:
    """Returns whether the row lies there already, as it would be made now."""
    return kept(path, promised) and "probability" in records.read_json(path)


def row(name: str, defence: str, seed: int, root: Path, work: Path) -> Values:
    """Returns a row; what ``work`` holds of it is not made again."""
    field, run = FIELDS[name], work / f"{name}-{defence}-{seed}"
    model, data, minutes = fitted(recipe_of(name, defence, seed), run, root)
    threat = Linf(field.eps)
    judged = {}
    for suite in ("standard", "ensemble19"):
        out = run / suite
        how = Conditions(field.samples, resume=out.exists(), keep_adversarials=False)
        checks = None if suite == "standard" else ()
        judged[suite] = evaluate(model, data, threat, suite, out=out, conditions=how, checks=checks)
    standard, ensemble = judged["standard"], judged["ensemble19"]
    pgd = standing(standard, "S3-pgd-10")
    return {
        "clean": standard.clean_accuracy,
        "pgd-10": pgd,
        "ensemble19": ensemble.robust_accuracy,
        "standard": standard.robust_accuracy,
        "interval": list(standard.interval),
        "masking_gap": pgd - standard.robust_accuracy,
        "finding": standard.finding.status,
        "reasons": list(standard.finding.reasons),
        "stands": bits(standard.robust),
        "stands_ensemble19": bits(ensemble.robust),
        "right": bits(standard.clean),
        **explained(model, data, standard.data.indices[:EXPLAINED], field.eps),
        "minutes": {
            "training": minutes,
            **{n: round(sum(seconds(r)) / 60, 2) for n, r in judged.items()},
        },
        "environment": records.environment() | {"threads": torch.get_num_threads()},
    }


def seconds(record: Record) -> Sequence[float]:
    """Returns what each step took, in all processes that worked on it."""
    return list(record.times["seconds_of_steps"].values())


def standing(record: Record, step: str) -> float:
    """Returns the share of samples that are right and stand after one step alone."""
    (fell,) = (found.success for found in record.steps if found.id == step)
    pairs = zip(record.clean, fell, strict=True)
    return sum(right and not fallen for right, fallen in pairs) / len(record.clean)


def bits(values: Sequence[bool]) -> str:
    """Returns one character for each sample."""
    return "".join("01"[value] for value in values)


def explained(model: SpikingNetwork, data: Dataset, indices: Sequence[int], eps: float) -> Values:
    """Returns gradients and firing: means over samples, of layers weighted by their neurons.

    ``gradient`` is the loss's at the input, ``probability`` that of the label's probability, whose
    ``spread`` is the share of the entries that would carry its l1 norm were they equally large.
    """
    x, y = data.test.batch(torch.tensor(indices))
    with recorded(model) as layers, torch.no_grad():
        model(x)
    sizes = torch.tensor([float(layer.neurons) for layer in layers.values()])
    rates = torch.stack([layer.rate.mean() for layer in layers.values()])
    entrance = trail(model, x, y).operations[0]
    found = vulnerability(model, x, y, eps, draws=DRAWS)
    spread = [one / 3 / x[0].numel() for one in found.linear if math.isfinite(one)]
    return {
        "firing_rate": float((rates * sizes).sum() / sizes.sum()),
        "gradient": {
            "operation": entrance.name,
            "zeros": mean(entrance.zeros),
            "near_zero": mean(entrance.near[2]),
            "l1": mean(entrance.l1),
        },
        "probability": {
            "l1": mean(found.l1),
            "spread": mean(spread) if spread else 0.0,
            "rand": mean(found.rand),
            "adv": mean(found.adv),
        },
    }


def mean(values: Sequence[float]) -> float:
    """Returns the mean."""
    return sum(values) / len(values)


def items(sets: Sequence[str], only: Sequence[str], part: tuple[int, int]) -> Iterator[Any]:
    """Yields set, defence and seed of a part of all rows, the first seeds of all sets first."""
    every = [
        (seed, name, defence)
        for name in sets
        for defence, seed in product(DEFENCES, range(FIELDS[name].seeds))
        if not only or defence in only
    ]
    for seed, name, defence in sorted(every, key=lambda one: one[0])[part[0] - 1 :: part[1]]:
        yield name, defence, seed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=list(FIELDS), help=", ".join(FIELDS))
    parser.add_argument("--defences", nargs="+", default=[], help="some only")
    parser.add_argument("--part", default="1/1", help="k/n: this process makes one part of n")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "defences")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    given = parser.parse_args()
    keep_large_blocks()
    first, of = map(int, given.part.split("/"))
    for name, defence, seed in items(given.sets, given.defences, (first, of)):
        path, promised = RESULTS / f"{name}-{defence}-{seed}.json", promise(name, defence, seed)
        if not made(path, promised):
            found = row(name, defence, seed, given.data, given.work)
            said = {"schema": records.SCHEMA, "kind": "defence", "set": name, "defence": defence}
            records.write_json(path, said | {"seed": seed} | promised | found)
        there = records.read_json(path)
        shown = " ".join(
            f"{k} {there[k]:.1%}" for k in ("clean", "pgd-10", "ensemble19", "standard")
        )
        print(f"{name} {defence} {seed}: {shown}; {there['finding']}", flush=True)
