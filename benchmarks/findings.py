"""Draws tables of docs/findings.md from rows of others: python -m benchmarks.findings.

The rows are those of `defences` and of `compression`.

A figure is the mean over seeds. Its interval, 95 %, draws samples anew, and from three seeds on
seeds at once, since all seeds meet the same samples; two seeds do not tell how seeds differ, so
with fewer than three it speaks of these networks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch
from benchmarks import compression
from benchmarks._nets import kept, paired
from benchmarks._timing import RESULTS as TIMED
from benchmarks.costs import NATURAL
from benchmarks.defences import DEFENCES, FIELDS, RESULTS, Values, made, mean, promise
from benchmarks.pages import DOCS, filled, table
from torch import Tensor

from spikeproof import records, seeding

COSTS = TIMED / "training-costs-cpu.json"
PAGE = DOCS / "findings.md"
DRAWS = 4000
FEWEST = 3  # seeds that are drawn anew
RHOS = ("rand", "adv")
HEAD = (
    "defence",
    "seeds",
    "clean",
    "PGD-10",
    "ensemble19",
    "`standard`",
    "over natural",
    "masking gap",
    "gradient l1",
    "zeros",
    "spread",
    "rand",
    "adv",
    "firing",
    "training",
)
COUNTED = "behind_neurons"  # operations, as paper B counts them
SHRUNK = (
    "removed, %",
    "method",
    "seeds",
    "clean",
    "ensemble19",
    "`standard`",
    "operations",
    "of dense",
    "bytes",
    "times smaller",
    "lost by int8",
    "seconds of training",
)
VERSUS = (
    (0.0, "converted", "end_to_end"),
    (0.9, "random_static", "end_to_end"),
    (0.9, "hydra", "end_to_end"),
    *((s, "harp", other) for s in (0.9, 0.95, 0.99) for other in ("hydra", "magnitude")),
)


def judged(name: str, folder: Path = RESULTS) -> dict[str, list[Values]]:
    """Returns the rows of a set as they would be made now, by defence, in the order of seeds."""
    found: dict[str, list[Values]] = {}
    for defence, seed in product(DEFENCES, range(FIELDS[name].seeds)):
        path = folder / f"{name}-{defence}-{seed}.json"
        if made(path, promise(name, defence, seed)):
            found.setdefault(defence, []).append(records.read_json(path))
    return found


def stands(rows: list[Values], key: str = "stands") -> Tensor:
    """Returns which samples stand, seeds x samples."""
    return torch.tensor([[float(bit) for bit in row[key]] for row in rows], dtype=torch.float64)


def interval(values: Tensor) -> tuple[float, float]:
    """Returns the 95 % of means of seeds and samples drawn anew, each with replacement."""
    draw = seeding.generator(0, "interval")
    seeds, samples = values.shape
    picked = torch.randint(seeds, (DRAWS, seeds), generator=draw)
    if seeds < FEWEST:
        picked = torch.arange(seeds).expand(DRAWS, -1)
    weights = torch.zeros(DRAWS, samples, dtype=torch.float64)
    places = torch.randint(samples, (DRAWS, samples), generator=draw)
    weights.scatter_add_(1, places, torch.ones_like(weights))
    means = (values[picked].mean(1) * weights).sum(1) / samples
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def cells(
    name: str, rows: list[Values], natural: list[Values], cost: float | None
) -> Iterator[str]:
    """Yields the cells of a defence; it is compared with natural training seed by seed.

    ``cost`` is a step of natural training in units of the defence's.
    """
    yield from (name, str(len(rows)))
    yield from (f"{100 * mean([r[key] for r in rows]):.1f}" for key in ("clean", "pgd-10"))
    for key in ("stands_ensemble19", "stands"):
        yield points(stands(rows, key))
    both = {r["seed"] for r in rows} & {r["seed"] for r in natural}
    a, b = ([r for r in of if r["seed"] in both] for of in (rows, natural))
    yield points(stands(a) - stands(b), sign=True) if both and rows is not natural else ""
    yield f"{100 * mean([r['masking_gap'] for r in rows]):.1f}"
    yield f"{mean([r['probability']['l1'] for r in rows]):.2f}"
    yield f"{100 * mean([r['gradient']['zeros'] for r in rows]):.1f}"
    yield f"{100 * mean([r['probability']['spread'] for r in rows]):.0f}"
    yield from (f"{1000 * mean([r['probability'][key] for r in rows]):.1f}" for key in RHOS)
    yield f"{100 * mean([r['firing_rate'] for r in rows]):.1f}"
    yield f"{1 / cost:.1f}" if cost else ""


def points(values: Tensor, *, sign: bool = False) -> str:
    """Returns a mean with its interval, in points of percent."""
    low, high = interval(values)
    form = "+.1f" if sign else ".1f"
    return f"{100 * float(values.mean()):{form}} ({100 * low:{form}} to {100 * high:{form}})"


def field(name: str) -> str:
    """Returns the table of a set."""
    rows, steps = judged(name), costs(name)
    natural = rows[NATURAL]
    body = [list(cells(n, found, natural, steps.get(n))) for n, found in rows.items()]
    return table([list(HEAD), *body])


def costs(name: str) -> dict[str, float]:
    """Returns a step of natural training in units of each defence's, as far as it was timed."""
    if not COSTS.exists():
        return {}
    rows = records.read_json(COSTS)["sets"].get(name, {})
    return {n: row[f"{NATURAL} / this"]["median"] for n, row in rows.items()}


def gaps(name: str) -> str:
    """Returns what one gradient overstates, in points: seeds' mean, least and most."""
    out = [["defence", "PGD-10 less ensemble19", "ensemble19 less `standard`"]]
    for defence, rows in judged(name).items():
        pairs = (("pgd-10", "ensemble19"), ("ensemble19", "standard"))
        found = [[100 * (r[a] - r[b]) for r in rows] for a, b in pairs]
        out.append([defence, *(f"{mean(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in found)])
    return table(out)


def shrunk(name: str) -> dict[tuple[float, str], list[Values]]:
    """Returns the rows of a set as they would be made now, by share removed and method."""
    found: dict[tuple[float, str], list[Values]] = {}
    for row in compression.items([name]):
        path = compression.place(row)
        if path.exists() and kept(path, compression.promise(row)):
            found.setdefault((row.sparsity, row.method), []).append(records.read_json(path))
    return dict(sorted(found.items(), key=lambda of: of[0][0]))


def smaller(name: str) -> str:
    """Returns what is left of the networks of a set; operations are of what is converted dense."""
    rows = shrunk(name)
    dense = {r["seed"]: r for r in rows.get((0.0, compression.CONVERTED), [])}
    out = [list(SHRUNK)]
    for (sparsity, method), of in rows.items():
        files = [r["packed"]["fp32"] for r in of]
        ratios = [
            r["operations"][COUNTED] / dense[r["seed"]]["operations"][COUNTED]
            for r in of
            if r["seed"] in dense
        ]
        lost = [r["packed"]["fp32"]["accuracy"] - r["packed"]["int8"]["accuracy"] for r in of]
        out.append([
            removed(sparsity),
            plain(method),
            str(len(of)),
            f"{100 * mean([r['clean'] for r in of]):.1f}",
            points(stands(of, "stands_ensemble19")),
            points(stands(of)),
            f"{mean([r['operations'][COUNTED] for r in of]):,.0f}",
            f"{mean(ratios):.3f}" if ratios else "",
            f"{mean([f['bytes'] for f in files]):,.0f}",
            f"{mean([f['dense'] / f['bytes'] for f in files]):.1f}",
            f"{100 * mean(lost):.1f}",
            f"{mean([sum(r['seconds']['training'].values()) for r in of]):.0f}",
        ])  # fmt: skip
    return table(out)


def compared() -> str:
    """Returns pairs of methods, image by image, for the seeds that both have."""
    out = [["set", "removed", "one less other", "seeds", "clean", "p", "`standard`", "p"]]
    every = {name: shrunk(name) for name in compression.FIELDS}
    for (name, rows), (sparsity, one, other) in product(every.items(), VERSUS):
        both = [rows.get((sparsity, method), []) for method in (one, other)]
        seeds = {r["seed"] for r in both[0]} & {r["seed"] for r in both[1]}
        if not seeds:
            continue
        ours, theirs = ([r for r in of if r["seed"] in seeds] for of in both)
        cells = [name, removed(sparsity), f"{plain(one)} less {plain(other)}", str(len(seeds))]
        for key in ("right", "stands"):
            cells.append(points(stands(ours, key) - stands(theirs, key), sign=True))
            cells.append(f"{paired([r[key] for r in ours], [r[key] for r in theirs]):.2g}")
        out.append(cells)
    return table(out)


def removed(sparsity: float) -> str:
    """Returns the share that is gone, in percent."""
    return f"{100 * sparsity:g}" if sparsity else "none"


def plain(method: str) -> str:
    """Returns the name of a method as it is shown."""
    return method.replace("_", " ")


def parts() -> dict[str, str]:
    """Returns the tables of the sets that have rows."""
    makers: dict[str, Callable[[str], str]] = {"": field, "gaps ": gaps}
    there = [name for name in FIELDS if NATURAL in judged(name)]
    found = {f"{kind}{name}": make(name) for kind, make in makers.items() for name in there}
    small = [name for name in compression.FIELDS if shrunk(name)]
    found |= {f"compression {name}": smaller(name) for name in small}
    return found | ({"compression pairs": compared()} if small else {})


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), parts()))
