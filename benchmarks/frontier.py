"""Clean against worst case, over what a defence is given: python -m benchmarks.frontier [NET ...].

Every net is the network of recipes/digits-natural.toml under one setting of SR, of adversarial
training or of both, judged by `standard` within one budget. Some settings are those of the papers,
brought to this scale: a budget of training is the share of the judge's that it is in the paper,
whose judge allows 8/255. A net that lies in benchmarks/results/frontier as it would be made now is
kept, one that `defences` has made is taken from there, and a killed one goes on where it ended.
`python -m benchmarks.figures` draws the frontier.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks._nets import (
    RESULTS,
    ROOT,
    Point,
    Values,
    dominates,
    fitted,
    kept,
    paired,
    worst_case,
)
from benchmarks.defences import FIELDS, bits, seconds, standing
from benchmarks.defences import recipe_of as recipe_of_row

from spikeproof import records
from spikeproof.attacks import Linf
from spikeproof.catalogue import Recipe, read_recipe, to_values
from spikeproof.spiking import keep_large_blocks

OWN, SHARED = RESULTS / "frontier", RESULTS / "defences"
BASE = ROOT / "recipes" / "digits-natural.toml"
EPS, SAMPLES = FIELDS["digits"].eps, FIELDS["digits"].samples
PAPER = EPS / 4  # 2/255, where the judge allows 8/255
RETRACTIONS = '[{{kind="orthogonal",beta={}}},{{kind="simplex"}}]'


@dataclass(frozen=True)
class Net:
    """A setting: where it comes from, and what is laid over the recipe, or its name in defences."""

    family: str
    given: tuple[str, ...] = ()
    row: str = ""


def sr(lamb: float, h: float = 0.03) -> str:
    """Returns the override that adds SR."""
    return f'penalties=[{{kind="sr",lamb={lamb},h={h}}}]'


def attacked(kind: str, eps: float, steps: int = 7, size: float = 0.0) -> str:
    """Returns the override that trains on inputs that PGD has led."""
    of = f",step_size={size}" if size else ""
    search = f'{{kind="pgd",steps={steps}{of}}}'
    return f'objective={{kind="{kind}",threat={{kind="linf",eps={eps}}},search={search}}}'


def rat(eps: float, beta: float) -> tuple[str, ...]:
    """Returns the overrides of SNN-RAT."""
    return (
        attacked("rat", eps, 2, eps / 2),
        "train.optimizer.weight_decay=0.0",
        f"train.retractions={RETRACTIONS.format(beta)}",
    )


def nets() -> dict[str, Net]:
    """Returns all settings by name, those that the comparison is about first."""
    step = 2.55 / 8 * EPS  # 2.55/255 where the judge allows 8/255
    papers = {
        "A: SR 0.1": (sr(0.1, 0.01),),
        "A: SR 0.001": (sr(0.001, 0.01),),
        "A: AT 8/255": (attacked("adversarial", EPS, 7, step),),
        "A: AT 8/255, SR 0.1": (attacked("adversarial", EPS, 7, step), sr(0.1, 0.01)),
        "A: AT 2/255, SR 0.1": (attacked("adversarial", PAPER, 7, step), sr(0.1, 0.01)),
        "RAT 2/255": rat(PAPER, 0.002),
        "A: AT 8/255, SR 0.001": (attacked("adversarial", EPS, 7, step), sr(0.001, 0.01)),
    }
    every = {name: Net("papers", given) for name, given in papers.items()}
    for eps, lamb in ((0.1, 0.03), (0.15, 0.0), (0.1, 0.003), (0.025, 0.0), (0.15, 0.01)):
        given = (attacked("adversarial", eps), *([sr(lamb)] if lamb else []))
        every[f"AT {eps}{f', SR {lamb}' * bool(lamb)}"] = Net("AT and SR" if lamb else "AT", given)
    every |= {f"SR {lamb}": Net("SR", (sr(lamb),)) for lamb in (0.01, 0.1, 0.003)}
    every["AT 0.05"] = Net("AT", (attacked("adversarial", 0.05),))
    of_defences = {
        "natural": ("natural", "natural-average"),
        "SR 0.03": ("SR", "sr"),
        "AT 0.1": ("AT", "adversarial"),
        "AT 0.1, SR 0.01": ("AT and SR", "sr-adversarial"),
        "TRADES 0.1": ("other recipes", "trades"),
        "MART 0.1": ("other recipes", "mart"),
        "RAT 0.1": ("other recipes", "rat"),
    }
    return every | {name: Net(f, row=row) for name, (f, row) in of_defences.items()}


def recipe_of(net: Net, seed: int) -> Recipe:
    """Returns the recipe of a net."""
    if net.row:
        return recipe_of_row("digits", net.row, seed)
    return read_recipe(BASE, (*net.given, f"train.seed={seed}"))


def promise(net: Net, seed: int) -> Values:
    """Returns what decides a net's record."""
    recipe = to_values(recipe_of(net, seed))
    return {"recipe": recipe, "threat": to_values(Linf(EPS)), "samples": SAMPLES}


def judged(recipe: Recipe, root: Path, run: Path) -> Values:
    """Returns what is left of a net; what ``run`` holds of it is not made again."""
    model, data, minutes = fitted(recipe, run, root)
    found = worst_case(model, data, Linf(EPS), SAMPLES, run / "standard")
    return {
        "clean": found.clean_accuracy,
        "pgd-10": standing(found, "S3-pgd-10"),
        "standard": found.robust_accuracy,
        "interval": list(found.interval),
        "right": bits(found.clean),
        "stands": bits(found.robust),
        "minutes": {"training": minutes, "standard": round(sum(seconds(found)) / 60, 2)},
        "environment": records.environment() | {"threads": torch.get_num_threads()},
    }


def place(name: str, seed: int) -> Path:
    """Returns where the record of a net lies: among defences, if they have it, or here."""
    row = nets()[name].row
    shared = SHARED / f"digits-{row}-{seed}.json"
    if row and shared.exists():
        return shared
    plain = name.lower().replace("/255", "-of-255").replace(":", "").replace(",", "")
    return OWN / f"{plain.replace(' ', '-')}-{seed}.json"


def make(names: Iterable[str], seeds: int, root: Path, work: Path) -> None:
    """Makes the records that are missing."""
    every = nets()
    for seed in range(seeds):
        for name in names:
            path, promised = place(name, seed), promise(every[name], seed)
            if path.parent == OWN and not kept(path, promised):
                found = judged(recipe_of(every[name], seed), root, work / path.stem)
                said = {"schema": records.SCHEMA, "kind": "frontier", "net": name, "seed": seed}
                records.write_json(path, said | promised | found)
            of = records.read_json(path)
            shown = " ".join(f"{k} {of[k]:.1%}" for k in ("clean", "pgd-10", "standard"))
            print(f"{name} {seed}: {shown}; {of['minutes']}", flush=True)


def there(seed: int = 0) -> dict[str, Values]:
    """Returns the records that lie there as they would be made now."""
    found = {
        name: place(name, seed)
        for name, net in nets().items()
        if kept(place(name, seed), promise(net, seed))
    }
    return {name: records.read_json(path) for name, path in found.items()}


def point(record: Values) -> Point:
    """Returns where a net stands: clean and worst case."""
    return record["clean"], record["standard"]


def versus(one: Values, other: Values) -> Values:
    """Returns one net beside another: both differences, with paired p-values."""
    found: Values = {"dominates": dominates(point(one), point(other))}
    for name, of in (("clean", "right"), ("standard", "stands")):
        p = paired([one[of]], [other[of]])
        found[name] = {"difference": one[name] - other[name], "p": p}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=list(nets()))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "frontier")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    given = parser.parse_args()
    keep_large_blocks()
    make(given.nets, given.seeds, given.data, given.work)
