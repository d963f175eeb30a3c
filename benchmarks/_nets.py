"""Networks that tables are made of: trained once, judged once, compared sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeproof import records
from spikeproof.attacks import Threat
from spikeproof.catalogue import Recipe, from_values, load_network, read_data, to_values
from spikeproof.cli._train import train
from spikeproof.data import Dataset
from spikeproof.evaluate import Conditions, Record, Suite, evaluate, named_suite
from spikeproof.spiking import SpikingNetwork
from spikeproof.statistics import mcnemar

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
Values = dict[str, Any]
Point = tuple[float, float]


@dataclass(frozen=True)
class Field:
    """The budget of a data set's judge, its samples, and how often each row is trained."""

    eps: float
    seeds: int
    samples: int = 256


def kept(path: Path, promised: Values) -> bool:
    """Returns whether the record lies there already, as it would be made now."""
    with suppress(FileNotFoundError):
        there = records.read_json(path)
        plain = [key for key in promised if key != "recipe"]
        now, then = ({key: of.get(key) for key in plain} for of in (promised, there))
        return not [*records.differences(then, now)] and meant(there, promised)
    return False


def meant(there: Values, promised: Values) -> bool:
    """Returns whether two records are of one recipe; what one does not know has its default."""
    told = [values["recipe"] for values in (there, promised) if "recipe" in values]
    known = [from_values(Recipe, values, "recipe") for values in told]
    return len(known) != 1 and known[:1] == known[1:]


def fitted(recipe: Recipe, run: Path, root: Path) -> tuple[SpikingNetwork, Dataset, float]:
    """Returns the trained network, its data and the minutes; a killed training goes on."""
    record = run / "record.json"
    if not record.exists():
        train(recipe, run, root, device="cpu", resume=run.exists())
    there = records.read_json(record)
    if not meant(there, {"recipe": to_values(recipe)}):
        raise SystemExit(f"{run} was trained by another recipe; remove it to train anew")
    return load_network(run), read_data(recipe, root), there["result"]["minutes_of_training"]


def worst_case(
    model: SpikingNetwork, data: Dataset, threat: Threat, samples: int, out: Path
) -> Record:
    """Returns what `standard` leaves; what ``out`` holds of it is not made again.

    The curve over budgets is left out of the suite, for it removes nobody.
    """
    how = Conditions(samples, batch=samples, resume=out.exists(), keep_adversarials=False)
    named = named_suite("standard", threat, len(data.classes), data.shape)
    suite = Suite("standard-images", tuple(step for step in named.steps if step.counts))
    return evaluate(model, data, threat, suite, out=out, conditions=how, checks=())


def dominates(one: Point, other: Point) -> bool:
    """Returns whether one point is nowhere worse than another and somewhere better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def front(points: dict[str, Point]) -> tuple[str, ...]:
    """Returns the names of the points that no other dominates, from the left to the right."""
    best = (n for n, p in points.items() if not any(dominates(q, p) for q in points.values()))
    return tuple(sorted(best, key=points.__getitem__))


def discordant(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """Returns how often one has a sample that the other lacks, and the reverse, over all seeds."""
    pairs = [*_pairs(one, other)]
    return sum(a > b for a, b in pairs), sum(b > a for a, b in pairs)


def paired(one: Sequence[str], other: Sequence[str]) -> float:
    """Returns the exact p-value of both being equally good, seed by seed, sample by sample."""
    return mcnemar(*discordant(one, other))


def _pairs(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[str, str]]:
    for a, b in zip(one, other, strict=True):
        yield from zip(a, b, strict=True)
