"""Many runs beside each other: what robustness costs, who is better, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spikeproof.report._blocks import BLANK, Cell, Figure, Section, Table, present
from spikeproof.report._curves import budget_curve, claim, left_by, noise
from spikeproof.report._energy import spent
from spikeproof.report._read import Evaluation, Run, alike
from spikeproof.report._words import (
    TONES,
    interval,
    number_cell,
    percent,
    share_cell,
    threat_words,
)
from spikeproof.statistics import holm, mcnemar, wilson

SHARED = range(1, 5)  # columns that are said once where all rows agree
COSTS = {
    "Bytes": "the size of the packed file",
    "Energy, µJ": "the energy of a sample's arithmetic",
    "Parameters": "the number of parameters",
}  # what the area of a dot is: the first that all records tell
PAIRS = 10  # evaluations of which every pair is tested; of more, each against the best


def comparison_sections(
    entries: Sequence[tuple[Run, Evaluation]], links: Sequence[str]
) -> tuple[Section, ...]:
    """Returns what one asks of several evaluations; ``links`` are the anchors of their chapters."""
    found, costs = [e for _, e in entries], [cost(run, e) for run, e in entries]
    return (
        Section(
            "overview",
            "All runs",
            present([tradeoff(found, costs), table(found, links, costs)]),
            "Clean accuracy against the worst case that the suite found. Evaluations under other "
            "threats or of other samples stand in the same figure and are not comparable.",
        ),
        Section(
            "pairs",
            "Sample by sample",
            present([pairs(found)]),
            "Two networks on the same samples under the same attacks: how many stand in one of "
            "them alone, and whether a fair coin would split them so (exact McNemar test, Holm's "
            "correction for all rows).",
        ),
        *_multiples(found),
    )


def cost(run: Run, found: Evaluation) -> dict[str, float]:
    """Returns what a network costs, as far as records tell: in the order of what is shown first."""
    costs: dict[str, float | None] = {
        "Bytes": float(run.packed["bytes"]) if run.packed else None,
        "Energy, µJ": spent(run.energy) if run.energy else None,
        "Parameters": parameters(found),
    }
    return {name: value for name, value in costs.items() if value is not None}


def tradeoff(found: Sequence[Evaluation], costs: Sequence[Mapping[str, float]]) -> Figure:
    """Returns clean accuracy against the worst case, the frontier drawn."""
    front = leading(found)
    told = [name for name in COSTS if all(name in cost for cost in costs)]
    points = []
    for e, leads, one in zip(found, front, costs, strict=True):
        low, high = wilson(sum(e.clean), e.samples)
        points.append(
            {
                "name": e.name, "x": e.accuracy, "y": e.worst, "x_low": low, "x_high": high,
                "low": e.interval[0], "high": e.interval[1], "tone": TONES.get(e.status, ""),
                "size": one[told[0]] if told else 0, "status": e.status, "front": leads,
            }
        )  # fmt: skip
    area = f"the area of a dot is {COSTS[told[0]]}, " if told else ""
    rows = tuple(
        (Cell(e.name), share_cell(e.accuracy), share_cell(e.worst), Cell(interval(*e.interval)),
         Cell("yes" if leads else "no"))
        for e, leads in zip(found, front, strict=True)
    )  # fmt: skip
    return Figure(
        "tradeoff",
        "Clean accuracy against the worst case",
        "scatter",
        {"points": points, "x": {"label": "clean"}, "y": {"label": "worst case"}},
        Table(
            "Clean accuracy and worst case",
            ("Run", "Clean", "Worst case", "95 % interval", "On the frontier"),
            rows,
        ),
        f"Crosses are 95 % intervals, {area}the line the frontier: no reliable run is better in "
        "both.",
    )


def leading(found: Sequence[Evaluation]) -> tuple[bool, ...]:
    """Returns which evaluations make the frontier; an unreliable one makes none."""
    kept = [e.status != "unreliable" for e in found]
    front = iter(frontier([(e.accuracy, e.worst) for e in found if e.status != "unreliable"]))
    return tuple(reliable and next(front) for reliable in kept)


def frontier(points: Sequence[tuple[float, float]]) -> tuple[bool, ...]:
    """Returns which points no other one beats: as good in both and better in one."""
    return tuple(
        not any(
            other[0] >= point[0] and other[1] >= point[1] and other != point for other in points
        )
        for point in points
    )


def table(
    found: Sequence[Evaluation], links: Sequence[str], costs: Sequence[Mapping[str, float]]
) -> Table:
    """Returns all evaluations with what one chooses by."""
    rows, told = [], [name for name in COSTS if any(name in cost for cost in costs)]
    told = told[:2]  # more does not fit beside the rest
    for e, link, one in zip(found, links, costs, strict=True):
        usual, dice = claim(e), noise(e)
        rows.append(
            (
                Cell(e.name, link=link),
                Cell(str(e.values["data"].get("name", ""))),
                Cell(threat_words(e.threat)),
                Cell(str(e.values["suite"])),
                number_cell(e.samples),
                share_cell(e.accuracy),
                share_cell(left_by(e, dice)) if dice else BLANK,
                share_cell(left_by(e, usual)) if usual else BLANK,
                share_cell(e.worst),
                Cell(interval(*e.interval)),
                Cell(e.status, tone=TONES.get(e.status, "")),
                *(number_cell(one.get(name)) for name in told),
            )
        )
    heads = (
        "Run", "Data", "Threat", "Suite", "Samples", "Clean", "Noise", "Usual attack",
        "Worst case", "95\u00a0% interval", "Finding",
        *told,
    )  # fmt: skip
    said = [n for n in SHARED if len({row[n].text for row in rows}) == 1]
    caption = ", ".join(f"{heads[n].lower()} {rows[0][n].text}" for n in said)
    kept = [n for n in range(len(heads)) if n not in said]
    return Table(
        f"All evaluations: {caption}" if caption else "All evaluations",
        tuple(heads[n] for n in kept),
        tuple(tuple(row[n] for n in kept) for row in rows),
        filtered=True,
    )


def pairs(found: Sequence[Evaluation]) -> Table | None:
    """Returns paired tests: of every pair, or of each with the best where there are many."""
    best = max(range(len(found)), key=lambda i: found[i].worst)
    if len(found) <= PAIRS:
        chosen = [(i, j) for i in range(len(found)) for j in range(i + 1, len(found))]
    else:
        chosen = [(best, j) for j in range(len(found)) if j != best]
    tested, counts = [], []
    rows: list[tuple[Any, ...]] = []
    for i, j in chosen:
        reason = alike(found[i], found[j])
        if not reason:
            both = list(zip(found[i].robust, found[j].robust, strict=True))
            counts.append((sum(a and not b for a, b in both), sum(b and not a for a, b in both)))
            tested.append(len(rows))
        rows.append((found[i], found[j], reason))
    p_values = [mcnemar(*count) for count in counts]
    corrected = holm(p_values)
    said: dict[int, tuple[Cell, ...]] = {}
    for row, (one, other), p, p_holm in zip(tested, counts, p_values, corrected, strict=True):
        name = "\u2013" if p_holm >= 0.05 else rows[row][0 if one > other else 1].name
        said[row] = (
            number_cell(one), number_cell(other), number_cell(p), number_cell(p_holm), Cell(name),
        )  # fmt: skip
    lines = tuple(
        (Cell(a.name), Cell(b.name),
         *said.get(n, (BLANK, BLANK, BLANK, BLANK, Cell(f"not comparable: {why}", tone="quiet"))))
        for n, (a, b, why) in enumerate(rows)
    )  # fmt: skip
    heads = (
        "First", "Second", "Stand in the first alone", "In the second alone", "p", "p (Holm)",
        "Better at 5 %",
    )  # fmt: skip
    return Table("Paired comparisons", heads, lines, filtered=len(lines) > 10)


def parameters(found: Evaluation) -> int | None:
    """Returns how many numbers the network was trained to."""
    count = (found.values.get("model") or {}).get("parameters")
    return count if isinstance(count, int) else None


def _multiples(found: Sequence[Evaluation]) -> tuple[Section, ...]:
    panels, rows = [], []
    for e in found:
        curve = budget_curve(e)
        if curve:
            panels.append({"name": e.name, "points": [point[:4] for point in curve]})
            rows += [
                (Cell(e.name), number_cell(x), share_cell(y), Cell(interval(low, high)))
                for x, y, low, high, _ in curve
            ]
    if len(panels) < 2:
        return ()
    figure = Figure(
        "multiples",
        "Accuracy against the budget, run by run",
        "multiples",
        {"panels": panels, "x": {"label": "budget"}},
        Table("What stands at each budget", ("Run", "Budget", "Stands", "95 % interval"),
              tuple(rows), filtered=True),
    )  # fmt: skip
    return (Section("multiples-section", "Side by side", (figure,)),)


def summary_sentence(found: Sequence[Evaluation]) -> str:
    """Returns the verdict about several evaluations in one sentence."""
    best = max(found, key=lambda e: (e.status != "unreliable", e.worst))
    doubtful = sum(e.status == "unreliable" for e in found)
    flagged = sum(e.status == "flagged" for e in found)
    low, high = best.interval
    return (
        f"Of {len(found)} evaluations the largest worst case is that of {best.name}: "
        f"{percent(best.worst)} (95\u00a0% interval {interval(low, high)}) within "
        f"{threat_words(best.threat)}; {doubtful} unreliable, {flagged} flagged."
    )
