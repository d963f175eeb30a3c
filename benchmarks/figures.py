"""Draws pooling and the frontier into docs/findings.md: python -m benchmarks.figures.

Tables stand between two comments that name them. The curves go into docs/pooling.svg and
docs/frontier.svg; they need altair and vl-convert-python, of the dependency group `pages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from benchmarks._nets import Values, dominates, front
from benchmarks.defences import mean
from benchmarks.findings import PAGE, interval, points
from benchmarks.frontier import nets as settings
from benchmarks.frontier import point, versus
from benchmarks.frontier import there as frontier_records
from benchmarks.pages import DOCS, filled, table
from benchmarks.pooling import IMAGES, POOLS, SPIKES
from benchmarks.pooling import there as pooling_records
from torch import Tensor

NAMES = {"max": "max pooling", "avg": "average pooling"}
Pooled = dict[str, list[Values]]


def bits_of(rows: Sequence[Values], *keys: str) -> Tensor:
    """Returns which samples stand, seeds x samples."""
    found: list[str] = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value[key]
        found.append(value)
    return torch.tensor([[float(bit) for bit in one] for one in found], dtype=torch.float64)


def stood() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields what a network is asked, and where its record has the answer."""
    yield "clean, of these samples", ("image", str(IMAGES[0]), "right")
    for eps in SPIKES:
        yield f"spikes, FGSM, {eps}/255", ("encoded", str(eps), "fgsm")
        yield f"spikes, PGD-7, {eps}/255", ("encoded", str(eps), "pgd-7")
        if eps in IMAGES:
            yield f"image, noise, {eps}/255", ("image", str(eps), "noise")
        yield f"image, PGD-7, {eps}/255", ("encoded", str(eps), "image pgd-7")
        if eps in IMAGES:
            yield f"image, strongest, {eps}/255", ("image", str(eps), "worst")


def pooling(found: Pooled) -> str:
    """Returns what stands, by pooling, and the difference, sample by sample."""
    rows = [["", *NAMES.values(), "max less average"]]
    tests = [[r["test"] for r in found[pool]] for pool in POOLS]
    gaps = [a - b for a, b in zip(*tests, strict=True)]
    shown = [f"{100 * mean(t):.1f} ({100 * min(t):.1f} to {100 * max(t):.1f})" for t in tests]
    spread = f"{100 * mean(gaps):+.1f} ({100 * min(gaps):+.1f} to {100 * max(gaps):+.1f})"
    rows.append(["clean, all 10,000 (least to most of the seeds)", *shown, spread])
    for name, keys in stood():
        a, b = (bits_of(found[pool], *keys) for pool in POOLS)
        rows.append([name, points(a), points(b), points(a - b, sign=True)])
    return table(rows)


def answer(found: Pooled) -> str:
    """Returns in words what the paper's budget leaves of either pooling."""
    eps = str(IMAGES[-1])
    asked = {"spikes": ("encoded", eps, "pgd-7"), "image": ("image", eps, "worst")}
    said = {}
    for name, keys in asked.items():
        a, b = (bits_of(found[pool], *keys) for pool in POOLS)
        said[name] = (points(a), points(b), points(a - b, sign=True))
    (spikes, other, gap), (image, image_other, image_gap) = said["spikes"], said["image"]
    seeds = len(found["max"])
    return (
        f"**Within {eps}/255 the paper's PGD-7 on spikes leaves {spikes} % of max pooling and "
        f"{other} % of average pooling, a difference of {gap} points; the strongest attack on the "
        f"image leaves {image} % and {image_other} %, a difference of {image_gap} points "
        f"({seeds} {'seed' if seeds == 1 else 'seeds'}).**"
    )


def operations(rows: Sequence[Values], when: str) -> list[Values]:
    """Returns the operations of a trail, their numbers the means over seeds."""
    trails = [row["trail"][when] for row in rows]
    return [
        one[0] | {key: mean([op[key] for op in one]) for key in ("zeros", "near_zero", "l2")}
        for one in zip(*trails, strict=True)
    ]


def looked_at(ops: Sequence[Values]) -> Iterator[tuple[str, float]]:
    """Yields what the table says of a trail."""
    pool = next(op for op in ops if op["kind"] in ("max_pool", "avg_pool"))
    blocks = [op for op in ops if "branch" in op["name"] or op["name"].endswith(".add")]
    for name, one in (("input", ops[0]), ("the pool", pool)):
        yield f"exact zeros at {name}, %", 100 * one["zeros"]
        yield f"below a thousandth of the largest at {name}, %", 100 * one["near_zero"]
    yield (
        "exact zeros in the blocks, shortcuts left out, %",
        100 * mean([o["zeros"] for o in blocks]),
    )
    share = mean([o["near_zero"] for o in blocks])
    yield "below a thousandth of the largest in the blocks, %", 100 * share
    yield "exact zeros, all operations, %", 100 * mean([op["zeros"] for op in ops])
    yield "l2 norm at input", ops[0]["l2"]


def trails(found: Pooled) -> str:
    """Returns the trails of both poolings before and after training."""
    columns = [
        [*looked_at(operations(found[pool], when))]
        for when in ("start", "trained")
        for pool in POOLS
    ]
    head = ["gradient of the loss", *(f"{w}, {p}" for w in ("start", "trained") for p in POOLS)]
    rows = [
        [one[0][0], *(f"{value:.2f}" if "l2" in one[0][0] else f"{value:.1f}" for _, value in one)]
        for one in zip(*columns, strict=True)
    ]
    return table([head, *rows])


def shipped(found: dict[str, Values]) -> list[str]:
    """Returns the nets whose settings are those of shipped recipes."""
    return [name for name, net in settings().items() if net.row and name in found]


def best(found: dict[str, Values]) -> str:
    """Returns which of our shipped recipes stands best, on the samples of the judge."""
    return max(shipped(found), key=lambda name: (found[name]["standard"], found[name]["clean"]))


def frontier(found: dict[str, Values]) -> str:
    """Returns all nets, the most robust first; those on the front are bold."""
    every = settings()
    edge = front({name: point(row) for name, row in found.items()})
    rows = [["net", "family", "clean", "PGD-10", "`standard`"]]
    for name, row in sorted(found.items(), key=lambda one: -one[1]["standard"]):
        low, high = row["interval"]
        rows.append(
            [
                f"**{name}**" if name in edge else name,
                every[name].family,
                f"{100 * row['clean']:.1f}",
                f"{100 * row['pgd-10']:.1f}",
                f"{100 * row['standard']:.1f} ({100 * low:.1f} to {100 * high:.1f})",
            ]
        )
    return table(rows)


def beside(found: dict[str, Values]) -> str:
    """Returns our best recipe beside every setting of the papers."""
    ours = best(found)
    rows = [[f"{ours} less", "clean", "p", "`standard`", "p", "dominated by"]]
    for name, row in found.items():
        if settings()[name].family == "papers":
            one = versus(found[ours], row)
            cells = [
                cell
                for key in ("clean", "standard")
                for cell in (f"{100 * one[key]['difference']:+.1f}", f"{one[key]['p']:.2g}")
            ]
            by = [n for n in shipped(found) if dominates(point(found[n]), point(row))]
            rows.append([name, *cells, "; ".join(by) or "none"])
    return table(rows)


def verdict(found: dict[str, Values]) -> str:
    """Returns in words whether our best recipe dominates the settings of the papers."""
    ours, every = best(found), settings()
    papers = {
        n: versus(found[ours], row) for n, row in found.items() if every[n].family == "papers"
    }
    beaten = [name for name, one in papers.items() if one["dominates"]]
    other = [name for name in papers if name not in beaten]
    level = found[ours]["standard"]
    ties = [name for name in shipped(found) if found[name]["standard"] == level]
    has = f"{listed(ties)} have" if len(ties) > 1 else f"`{ours}` has"
    it = f"`{ours}`, the best of them on clean images," if len(ties) > 1 else "it"
    text = f"**Of the shipped recipes, {has} the best worst case; of the papers' settings "
    text += f"{it} dominates {listed(beaten)}"
    for name in other:
        clean, worst = (papers[name][key] for key in ("clean", "standard"))
        text += (
            f"; beside `{name}` it has {100 * clean['difference']:+.1f} points clean (p = "
            f"{clean['p']:.2g}) and {100 * worst['difference']:+.1f} in the worst case (p = "
            f"{worst['p']:.2g})"
        )
    return text + ".**"


def listed(names: Sequence[str]) -> str:
    """Returns names as a sentence has them."""
    quoted = [f"`{name}`" for name in names]
    return (
        " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted) or "none"
    )


def parts() -> dict[str, str]:
    """Returns the tables of the records that there are."""
    out = {}
    pooled, judged = pooling_records(), frontier_records()
    if pooled["max"]:
        out |= {"pooling trail": trails(pooled), "pooling": pooling(pooled)}
        out["pooling answer"] = answer(pooled)
    if judged:
        out |= {"frontier": frontier(judged), "frontier papers": beside(judged)}
        out["frontier answer"] = verdict(judged)
    return out


def curves(found: Pooled) -> list[Values]:
    """Returns what the panels of pooling show: shares with intervals, by budget."""
    asked = {
        "spikes, PGD-7 (paper C)": [(eps, ("encoded", str(eps), "pgd-7")) for eps in SPIKES],
        "image, PGD-7": [(eps, ("encoded", str(eps), "image pgd-7")) for eps in SPIKES],
        "image, strongest": [(eps, ("image", str(eps), "worst")) for eps in IMAGES],
    }
    rows = []
    for attacker, at in asked.items():
        for eps, keys in [(0, ("image", str(IMAGES[0]), "right")), *at]:
            for pool in POOLS:
                values = bits_of(found[pool], *keys)
                low, high = interval(values)
                row = {"attacker": attacker, "pooling": NAMES[pool], "eps": eps, "low": 100 * low}
                rows.append(row | {"share": 100 * float(values.mean()), "high": 100 * high})
    return rows


def draw_pooling(found: Pooled) -> None:
    """Draws the trail and what stands."""
    import altair

    steps = [
        {
            "operation": number,
            "when": when,
            "pooling": NAMES[pool],
            "share": 100 * op[key],
            "zero": said,
        }
        for key, said in (("zeros", "exactly zero"), ("near_zero", "below a thousandth"))
        for when in ("start", "trained")
        for pool in POOLS
        for number, op in enumerate(operations(found[pool], when))
    ]
    color = altair.Color("pooling:N", title=None)
    trail = (
        altair.Chart(altair.Data(values=steps))
        .mark_line(point={"size": 12})
        .encode(
            altair.X("operation:Q", title="operation, from the input to the output"),
            altair.Y("share:Q", title="% of the gradient's entries"),
            color,
            altair.Column("when:N", title=None),
            altair.Row("zero:N", title=None),
        )
        .properties(width=230, height=120)
    )
    base = altair.Chart().encode(altair.X("eps:Q", title="budget, 255ths"), color)
    stands = (
        altair.layer(
            base.mark_line(point=True).encode(altair.Y("share:Q", title="% right and standing")),
            base.mark_rule().encode(altair.Y("low:Q"), altair.Y2("high:Q")),
            data=altair.Data(values=curves(found)),
        )
        .properties(width=150, height=150)
        .facet(altair.Column("attacker:N", title=None))
    )
    altair.vconcat(trail, stands).save(DOCS / "pooling.svg")


def draw_frontier(found: dict[str, Values]) -> None:
    """Draws clean against worst case, with the front and the names of those that are compared."""
    import altair

    every, ours = settings(), best(found)
    edge = front({name: point(row) for name, row in found.items()})
    nets = [
        {
            "net": name,
            "family": "papers, brought to this scale"
            if every[name].family == "papers"
            else every[name].family,
            "clean": 100 * row["clean"],
            "worst": 100 * row["standard"],
            "low": 100 * row["interval"][0],
            "high": 100 * row["interval"][1],
            "label": name if every[name].family == "papers" or name in (*edge, ours) else "",
            "edge": name in edge,
        }
        for name, row in found.items()
    ]
    base = altair.Chart(altair.Data(values=nets)).encode(
        altair.X("clean:Q", title="clean, %", scale=altair.Scale(zero=False, padding=40)),
        altair.Y("worst:Q", title="worst case within 0.05, %"),
    )
    color = altair.Color("family:N", title=None)
    line = base.transform_filter("datum.edge").mark_line(interpolate="step-before", color="gray")
    bars = base.mark_rule(color="lightgray").encode(altair.Y("low:Q"), altair.Y2("high:Q"))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(color)
    names = base.mark_text(align="right", dx=-7, fontSize=9).encode(altair.Text("label:N"))
    chart = altair.layer(line, bars, dots, names)
    chart.properties(width=560, height=420).save(DOCS / "frontier.svg")


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), parts()))
    if pooling_records()["max"]:
        draw_pooling(pooling_records())
    if frontier_records():
        draw_frontier(frontier_records())
