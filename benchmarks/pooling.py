"""Max against average pooling in SEW-ResNet, as paper C asks: python -m benchmarks.pooling.

Networks that differ in nothing but the pooling of the stem: the gradient's trail before and after
training; what stands under the paper's own attack on encoded spikes, and under the same attack on
the image; and what then stands under the strongest that we have, on the image. All that is made of
a network waits in its run folder piece by piece, so that a killed script goes on where it ended.
`python -m benchmarks.figures` draws the rest.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch
from benchmarks._nets import RESULTS, ROOT, Values, fitted, kept
from benchmarks.defences import bits, mean, seconds
from torch import nn

from spikeproof import records
from spikeproof.attacks import FGSM, PGD, SAPGD, Attack, Linf, Margin, RandomSearch, Square
from spikeproof.catalogue import Recipe, construct, read_recipe, specify, to_values
from spikeproof.data import Dataset
from spikeproof.evaluate import Conditions, Step, Suite, domains, evaluate, trail
from spikeproof.spiking import ASSG, SpikingNetwork, keep_large_blocks

OWN = RESULTS / "pooling"
BASE = ROOT / "recipes" / "papers" / "sew-resnet18.toml"
SMALL = (
    "data.name=fashion-mnist",
    "data.limit=6000",
    "data.validation=0.02",
    "model.width=0.125",
    "train.epochs=8",
    "train.batch=32",
    "train.optimizer.lr=0.003",
    'train.schedule={kind="cosine"}',
)
POOLS, SEEDS, SAMPLES, TRACED = ("max", "avg"), 3, 256, 64
SPIKES, IMAGES = (2, 4, 6, 8), (2, 6)  # budgets in 255ths; the paper's is 6
NEAR = 2  # place of 1e-3 among the relative thresholds of a trail
SUITE = Suite(
    "pooling",
    (
        Step("noise", Attack(RandomSearch(20)), everyone=True),
        Step("own", Attack(PGD(7, 0.01)), everyone=True),  # paper C's, on the image
        Step("assg-sapgd-100", Attack(SAPGD(100), rule=ASSG(vanishing=0.85))),
        Step("square-1000", Attack(Square(1000), Margin())),
    ),
)


def recipe_of(pool: str, seed: int) -> Recipe:
    """Returns the recipe of a network."""
    return read_recipe(BASE, (*SMALL, f"model.pool={pool}", f"train.seed={seed}"))


def promise(pool: str, seed: int) -> Values:
    """Returns what decides a record."""
    return {
        "recipe": to_values(recipe_of(pool, seed)),
        "samples": SAMPLES,
        "budgets": {"spikes": [*SPIKES], "images": [*IMAGES]},
        "attacks": [step.id for step in SUITE.steps],
    }


def once(path: Path, make: Callable[[], Values]) -> Values:
    """Returns what the file holds, after making it if there is none."""
    if not path.exists():
        records.write_json(path, make())
    return records.read_json(path)


def fresh(recipe: Recipe, data: Dataset) -> SpikingNetwork:
    """Returns the network before training, its norms by what a batch of images gives them.

    The paper's gradients are taken in training mode, where the statistics are those of a batch.
    """
    model = construct(specify(recipe, data), recipe.train.seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches: of one
    with torch.no_grad():
        model.train()(data.train.batch(torch.arange(SAMPLES))[0])
    return model.eval()


def traced(model: SpikingNetwork, data: Dataset, indices: Sequence[int]) -> Values:
    """Returns the trail: shares of zeros and norms at every operation, means over samples."""
    x, y = data.test.batch(torch.tensor(indices[:TRACED]))
    return {
        "operations": [
            {
                "name": op.name,
                "kind": op.kind,
                "zeros": mean(op.zeros),
                "near_zero": mean(op.near[NEAR]),
                "l2": mean(op.l2),
            }
            for op in trail(model, x, y).operations
        ]
    }


def encoded(model: SpikingNetwork, data: Dataset, indices: Sequence[int], eps: int) -> Values:
    """Returns what stands under the paper's attack on the encoded spikes, in one step and seven."""
    x, y = data.test.batch(torch.tensor(indices))
    budget = eps / 255
    pgd = domains(model, x, y, budget)
    fgsm = domains(model, x, y, budget, attack=Attack(FGSM()))
    return {
        "right": bits(pgd.clean),
        "pgd-7": left(pgd.clean, pgd.spikes),
        "fgsm": left(fgsm.clean, fgsm.spikes),
        "legal": left(pgd.clean, pgd.legal),
        "image pgd-7": left(pgd.clean, pgd.sensor),
        "flipped": mean(pgd.flipped),
    }


def left(right: Sequence[bool], fallen: Sequence[bool]) -> str:
    """Returns which samples are right and stand."""
    return bits([a and not b for a, b in zip(right, fallen, strict=True)])


def attacked(model: SpikingNetwork, data: Dataset, eps: int, out: Path) -> Values:
    """Returns what stands after each attack on the image; those after the second go on together."""
    how = Conditions(SAMPLES, resume=out.exists(), keep_adversarials=False)
    found = evaluate(model, data, Linf(eps / 255), SUITE, out=out, conditions=how, checks=())
    return {
        "indices": list(found.data.indices),
        "right": bits(found.clean),
        **{step.id: left(found.clean, step.success) for step in found.steps},
        "worst": bits(found.robust),
        "minutes": round(sum(seconds(found)) / 60, 2),
    }


def judged(pool: str, seed: int, root: Path, run: Path) -> Values:
    """Returns what is found about a network; what ``run`` holds is not made again."""
    recipe = recipe_of(pool, seed)
    model, data, minutes = fitted(recipe, run, root)
    promised = promise(pool, seed)
    if once(run / "promise.json", lambda: promised)["attacks"] != promised["attacks"]:
        raise SystemExit(f"{run} holds pieces of other attacks; remove it to make them anew")
    images = {
        str(eps): once(
            run / f"images-{eps}.json", lambda e=eps: attacked(model, data, e, run / f"eps-{e}")
        )
        for eps in IMAGES
    }
    indices = images[str(IMAGES[0])]["indices"]
    return {
        "test": records.read_json(run / "record.json")["result"]["test"]["accuracy"],
        "trail": {
            "start": once(run / "start.json", lambda: traced(fresh(recipe, data), data, indices))[
                "operations"
            ],
            "trained": once(run / "trained.json", lambda: traced(model, data, indices))[
                "operations"
            ],
        },
        "encoded": {
            str(eps): once(
                run / f"spikes-{eps}.json", lambda e=eps: encoded(model, data, indices, e)
            )
            for eps in SPIKES
        },
        "image": images,
        "minutes": {"training": minutes},
        "environment": records.environment() | {"threads": torch.get_num_threads()},
    }


def place(pool: str, seed: int) -> Path:
    """Returns where a record lies."""
    return OWN / f"{pool}-{seed}.json"


def there() -> dict[str, list[Values]]:
    """Returns the records of the seeds that both poolings have, by pooling."""
    seeds = [s for s in range(SEEDS) if all(kept(place(p, s), promise(p, s)) for p in POOLS)]
    return {pool: [records.read_json(place(pool, s)) for s in seeds] for pool in POOLS}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "pooling")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    given = parser.parse_args()
    keep_large_blocks()
    for seed, pool in product(range(given.seeds), POOLS):
        path, promised = place(pool, seed), promise(pool, seed)
        if not kept(path, promised):
            found = judged(pool, seed, given.data, given.work / path.stem)
            said = {"schema": records.SCHEMA, "kind": "pooling", "pool": pool, "seed": seed}
            records.write_json(path, said | promised | found)
        of = records.read_json(path)
        shown = {eps: one["worst"].count("1") for eps, one in of["image"].items()}
        print(f"{pool} {seed}: test {of['test']:.1%}; of {SAMPLES} stand {shown}", flush=True)
