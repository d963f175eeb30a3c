"""What is left of a robust network when weights go: python -m benchmarks.compression [SET ...].

A row is a set, a method, a share of the weights that is removed, and a seed. All rows but those
trained end to end begin with the same dense analog network of their seed, which is trained once,
and follow recipes/SET-sparse.toml: scores or a mask, fine-tuning, conversion, spiking fine-tuning.
End to end, a spiking network learns for as many epochs as all stages have, with the objective of
the spiking one and the connectivity of `random_static`. The network is judged by `standard` and by
the nineteen gradients of `ensemble19`, packed, and run by the engine on all test samples. A row
that lies in benchmarks/results/compression as it would be made now is kept, a killed one goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from benchmarks._nets import RESULTS as ALL
from benchmarks._nets import ROOT, Field, Values, fitted, kept, worst_case
from benchmarks.defences import bits, seconds
from torch import Tensor

from spikeproof import records
from spikeproof.attacks import Linf
from spikeproof.catalogue import Recipe, read_recipe, to_values
from spikeproof.compress import Harp, Hydra, Magnitude, RandomStatic, lower, prunable
from spikeproof.data import Dataset
from spikeproof.energy import operations
from spikeproof.evaluate import Conditions, evaluate
from spikeproof.ir import Graph, pack, unpack
from spikeproof.runtime import Activity, Agreement, Engine, agreement
from spikeproof.spiking import SpikingNetwork, keep_large_blocks

RESULTS = ALL / "compression"
PRUNINGS = {
    "magnitude": Magnitude,
    "hydra": Hydra,
    "harp": Harp,
    "random_static": RandomStatic,
}
CONVERTED, END_TO_END = "converted", "end_to_end"
METHODS = (*PRUNINGS, END_TO_END)
SPARSITIES = (0.9, 0.99, 0.95, 0.5)
PRECISIONS = ("fp32", "fp16", "int8")
AT_ONCE = 64
Answers = list[tuple[np.ndarray, np.ndarray]]


FIELDS = {
    "digits": Field(0.05, 2),
    "fashion-mnist": Field(0.05, 2),
    "cifar10": Field(4 / 255, 1),
}


@dataclass(frozen=True)
class Row:
    """One network; without ``sparsity`` it is dense."""

    name: str
    method: str
    sparsity: float
    seed: int

    @property
    def stem(self) -> str:
        """Its name on disk."""
        return f"{self.name}-{self.method.replace('_', '-')}-{self.sparsity:g}-{self.seed}"


def recipe_of(row: Row) -> Recipe:
    """Returns the recipe of a row: stages, or one training of a spiking network."""
    path = ROOT / "recipes" / f"{row.name}-sparse.toml"
    base = read_recipe(path, [f"train.seed={row.seed}"])
    dense, scores, sparse, spiking = base.stages
    if row.method == END_TO_END:
        epochs = sum(stage.epochs or base.train.epochs for stage in base.stages)
        return replace(
            base,
            stages=(),
            objective=spiking.objective or base.objective,
            prune=RandomStatic(row.sparsity) if row.sparsity else None,
            train=replace(base.train, epochs=epochs),
        )
    if row.method == CONVERTED:
        return replace(base, stages=(dense, spiking))
    prune = PRUNINGS[row.method](sparsity=row.sparsity)
    return replace(base, stages=(dense, replace(scores, prune=prune), sparse, spiking))


def promise(row: Row) -> Values:
    """Returns what decides a row; another promise is another row."""
    field = FIELDS[row.name]
    return {
        "recipe": to_values(recipe_of(row)),
        "threat": to_values(Linf(field.eps)),
        "samples": field.samples,
    }


def place(row: Row, folder: Path = RESULTS) -> Path:
    """Returns where the record of a row lies."""
    return folder / f"{row.stem}.json"


def trained(row: Row, run: Path, root: Path) -> tuple[SpikingNetwork, Dataset, Values]:
    """Returns the network, its data and the seconds of every training that it took."""
    recipe = recipe_of(row)
    if recipe.stages:
        share_dense(run.parent / Row(row.name, CONVERTED, 0.0, row.seed).stem, run)
    model, data, _ = fitted(recipe, run, root)
    result = records.read_json(run / "record.json")["result"]
    stages = result.get("stages", {"training": result})
    spent = {name: round(of["minutes_of_training"] * 60, 1) for name, of in stages.items()}
    return model, data, spent


def share_dense(of: Path, run: Path) -> None:
    """Gives a run the dense network of its seed, if that is there and its own is not begun."""
    mine, theirs = run / "1-dense", of / "1-dense"
    if not mine.exists() and (theirs / "record.json").exists():
        partial = run / "1-dense.part"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(theirs, partial)
        partial.rename(mine)


def made(row: Row, root: Path, work: Path) -> Values:
    """Returns a row; what ``work`` holds of it is not made again."""
    field, run = FIELDS[row.name], work / row.stem
    model, data, training = trained(row, run, root)
    threat = Linf(field.eps)
    standard = worst_case(model, data, threat, field.samples, run / "standard")
    out = run / "ensemble19"
    how = Conditions(field.samples, field.samples, resume=out.exists(), keep_adversarials=False)
    ensemble = evaluate(model, data, threat, "ensemble19", out=out, conditions=how, checks=())
    return {
        "clean": standard.clean_accuracy,
        "ensemble19": ensemble.robust_accuracy,
        "standard": standard.robust_accuracy,
        "interval": list(standard.interval),
        "right": bits(standard.clean),
        "stands": bits(standard.robust),
        "stands_ensemble19": bits(ensemble.robust),
        **weights(model),
        **packed(model, data, run),
        "seconds": {
            "training": training,
            "standard": round(sum(seconds(standard))),
            "ensemble19": round(sum(seconds(ensemble))),
        },
        "environment": records.environment() | {"threads": torch.get_num_threads()},
    }


def weights(model: SpikingNetwork) -> Values:
    """Returns the shares of the weights that are not zero, of all and layer by layer."""
    of = prunable(model)
    there = {name: int(weight.count_nonzero()) for name, weight in of.items()}
    return {
        "density": sum(there.values()) / sum(weight.numel() for weight in of.values()),
        "densities": {name: there[name] / weight.numel() for name, weight in of.items()},
    }


def packed(model: SpikingNetwork, data: Dataset, run: Path) -> Values:
    """Returns bytes, answers of the engine to all test samples, and operations of each."""
    graph = lower(model.eval(), data.shape)
    files: Values = {}
    whole: Values = {}
    for precision in PRECISIONS:
        storage = pack(run / f"{precision}.spkp", graph, precision)
        again = unpack(run / f"{precision}.spkp")
        activity, answers = answered(again, data)
        files[precision] = asdict(storage) | {"bytes": storage.total, "accuracy": right(answers)}
        if precision == "fp32":
            found = agreed(model, again, data, answers)
            whole = {"agreement": asdict(found), "operations": cost(again, activity)}
    return {"packed": files, "kept": graph.kept, "weights": graph.size, **whole}


def batches(data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields all test samples."""
    return (data.test.batch(rows) for rows in torch.arange(len(data.test)).split(AT_ONCE))


def answered(graph: Graph, data: Dataset) -> tuple[Activity, Answers]:
    """Returns what the engine did, and its logits with the labels, batch by batch."""
    engine, activity = Engine(graph, threads=1), Activity()
    return activity, [(engine(x.numpy(), activity), y.numpy()) for x, y in batches(data)]


def right(answers: Answers) -> float:
    """Returns the share of right answers."""
    hits = [logits.argmax(1) == y for logits, y in answers]
    return float(np.concatenate(hits).mean())


def agreed(model: SpikingNetwork, graph: Graph, data: Dataset, answers: Answers) -> Agreement:
    """Returns how far the engine's logits are those of the network in torch."""
    found = Agreement()
    for (x, _), (logits, _) in zip(batches(data), answers, strict=True):
        with torch.no_grad():
            found += agreement(graph, x.numpy(), logits, model(x).numpy())
    return found


def cost(graph: Graph, activity: Activity) -> Values:
    """Returns operations of a test sample, as a mean."""
    counted = operations(graph, activity.events, activity.samples)
    names = ("behind_neurons", "synaptic", "multiplied", "analog", "updates")
    spikes = sum(activity.spikes.values()) / activity.samples
    return {name: getattr(counted, name) for name in names} | {"spikes": spikes}


def items(sets: Sequence[str]) -> Iterator[Row]:
    """Yields all rows of some sets, the first seeds of all sets first, dense before sparse."""
    rates = [(method, 0.0) for method in (CONVERTED, END_TO_END)]
    rates += [(method, sparsity) for sparsity, method in product(SPARSITIES, METHODS)]
    for seed in range(max(FIELDS[name].seeds for name in sets)):
        for name in sets:
            if seed < FIELDS[name].seeds:
                yield from (Row(name, method, sparsity, seed) for method, sparsity in rates)


def make(rows: Sequence[Row], root: Path, work: Path) -> None:
    """Makes the records that are missing."""
    for row in rows:
        path, promised = place(row), promise(row)
        if not kept(path, promised):
            said = {"schema": records.SCHEMA, "kind": "compression", "set": row.name}
            said |= {"method": row.method, "sparsity": row.sparsity, "seed": row.seed}
            records.write_json(path, said | promised | made(row, root, work))
        of = records.read_json(path)
        shown = " ".join(f"{key} {of[key]:.1%}" for key in ("clean", "ensemble19", "standard"))
        print(f"{row.stem}: {shown}; {of['packed']['fp32']['bytes']} bytes", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=list(FIELDS), help=", ".join(FIELDS))
    parser.add_argument("--part", default="1/1", help="k/n: this process makes one part of n")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "compression")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    given = parser.parse_args()
    keep_large_blocks()
    first, of = map(int, given.part.split("/"))
    make([*items(given.sets)][first - 1 :: of], given.data, given.work)
