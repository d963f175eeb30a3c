"""Which attack broke what, and what each gradient rule sees of the same network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from spikeproof.report._blocks import BLANK, Cell, Figure, Note, Section, Table, present
from spikeproof.report._read import Evaluation, Step
from spikeproof.report._words import (
    OWN,
    counted,
    interval,
    listed,
    loss_words,
    number_cell,
    rule_of,
    search_words,
    share_cell,
    told_apart,
)
from spikeproof.statistics import contributions, jaccard, only_by, wilson

SHORT = 8  # rows of half a page
MATRIX = 16  # attacks that one can read side by side


def contribution_section(found: Evaluation, key: str) -> Section:
    """Returns what every attack broke: in order, in common, and alone."""
    return Section(
        f"{key}-attacks",
        "Which attack broke what",
        present([_descent(found, key), _matrix(found, key), _steps(found)]),
        "Attacks meet the samples that those before them left standing; baselines meet all that "
        "were right.",
    )


def masking_section(found: Evaluation, key: str) -> Section | None:
    """Returns the same network seen through each gradient rule, or None with one rule only."""
    groups = _groups(found)
    if not groups:
        return None
    drawn = [group for group in groups if group[0].everyone or any(step.broke for step in group)]
    idle = [
        f"{_what(group)} through {counted(len(group), 'gradient')}"
        for group in groups
        if group not in drawn
    ]
    note = Note(f"Nothing more fell to {listed(idle)}.") if idle else None
    figures = [_rules(f"{key}-rules-{n}", steps) for n, steps in enumerate(drawn, 1)]
    return Section(
        f"{key}-masking",
        "The same network through each gradient",
        present([*figures, note]),
        "A spike has no gradient of its own; each rule and each width of a surrogate is another "
        "choice of the attacker, and the forward pass is the same for all. Where one rule breaks "
        "much more than the network's own gradient, the own gradient was masked.",
    )


def _descent(found: Evaluation, key: str) -> Figure | None:
    standing = list(found.clean)
    rows: list[dict[str, Any]] = []
    share, idle = sum(standing) / found.samples, 0
    for step in found.steps:
        if step.skipped or not step.counts:
            continue
        standing = [a and not b for a, b in zip(standing, step.success, strict=True)]
        after = sum(standing) / found.samples
        if after == share:
            idle += 1
            continue
        rows.append({"name": step.id, "from": share, "to": after})
        share = after
    if not rows:
        return None
    fell = [round((row["from"] - row["to"]) * found.samples) for row in rows]
    return Figure(
        f"{key}-descent",
        "From clean to the worst case",
        "bars",
        {"rows": rows, "x": {"label": "samples that stand"}},
        Table(
            "Attacks that broke samples which stood until then, in their order",
            ("Attack", "Broke anew", "Stands before", "Stands after"),
            tuple(
                (Cell(row["name"]), number_cell(n), share_cell(row["from"]), share_cell(row["to"]))
                for row, n in zip(rows, fell, strict=True)
            ),
        ),
        f"{counted(idle, 'more attack')} broke nothing that still stood." if idle else "",
    )


def _matrix(found: Evaluation, key: str) -> Figure | None:
    steps = [s for s in found.steps if s.counts and s.everyone and not s.skipped and s.broke]
    steps = sorted(sorted(steps, key=lambda s: -s.broke)[:MATRIX], key=found.steps.index)
    if len(steps) < 2:
        return None
    bits = [step.success for step in steps]
    counts, shares, alone = contributions(bits), jaccard(bits), only_by(bits)
    names = [step.id for step in steps]
    spots = [
        {"row": names[i], "column": names[j], "text": str(counts[i][j]), "share": shares[i][j]}
        for i in range(len(steps))
        for j in range(len(steps))
    ]
    rows = [
        (Cell(name), *(number_cell(n) for n in counts[i]), number_cell(alone[i]))
        for i, name in enumerate(names)
    ]
    return Figure(
        f"{key}-matrix",
        "Samples broken by both of two attacks",
        "matrix",
        {"names": names, "cells": spots},
        Table(
            "Samples that the attack of the row and that of the column both break",
            ("Attack", *names, "By it alone"),
            tuple(rows),
        ),
        "Only attacks that met every sample can be set beside each other. The diagonal counts each "
        "alone; the darker, the more alike what they break.",
    )


def _steps(found: Evaluation) -> Table:
    spent = (found.values.get("times") or {}).get("seconds_of_steps") or {}
    rules = dict(zip(*_named_rules(found.steps), strict=True))
    rows = []
    for step in found.steps:
        told = step.summary
        met = max(1, step.met)
        left = Cell(f"not run: {step.skipped}", tone="quiet") if step.skipped else None
        if left is None and any(step.crashed):
            left = Cell(f"crashed on {sum(step.crashed)}: {step.message}", tone="bad")
        if left is None and not step.counts:
            left = Cell("measures a curve", tone="quiet")
        rows.append(
            (
                Cell(step.id),
                Cell(search_words(step.attack)),
                Cell(rules[step.id]),
                Cell(loss_words(step.attack)) if loss_words(step.attack) else BLANK,
                number_cell(step.met),
                number_cell(step.broke),
                number_cell(told.get("only_by")),
                share_cell(told["cumulative"]) if "cumulative" in told else BLANK,
                number_cell(round(step.forwards / met, 1)),
                number_cell(round(step.backwards / met, 1)),
                number_cell(spent.get(step.id)),
                left or Cell(_source(step)),
            )
        )
    return Table(
        "Every attack of the suite",
        (
            "Attack", "Search", "Gradient", "Loss", "Met", "Broke", "By it alone", "Left standing",
            "Forwards", "Backwards", "Seconds", "Remark",
        ),
        tuple(rows),
        filtered=True,
        folded=f"All {counted(len(rows), 'attack')}, their settings and their cost",
    )  # fmt: skip


def _source(step: Step) -> str:
    return "follows another network" if step.source else ""


def _named_rules(steps: Sequence[Step]) -> tuple[list[str], tuple[str, ...]]:
    return [s.id for s in steps], told_apart([rule_of(s.attack) for s in steps])


def _groups(found: Evaluation) -> list[list[Step]]:
    """Returns attacks that differ in their gradient alone, with three gradients and more."""
    alike: dict[tuple[str, str, bool], list[Step]] = defaultdict(list)
    for step in found.steps:
        if step.counts and not step.skipped and step.met and step.source is None:
            named = search_words(step.attack), loss_words(step.attack), step.everyone
            alike[named].append(step)
    groups = [g for g in alike.values() if len({str(rule_of(s.attack)) for s in g}) > 2]
    return sorted(groups, key=lambda group: not group[0].everyone)


def _rules(id: str, steps: Sequence[Step]) -> Figure:
    rows, table = [], []
    for step, rule in zip(steps, _named_rules(steps)[1], strict=True):
        share, (low, high) = step.broke / step.met, wilson(step.broke, step.met)
        tone = "own" if rule == OWN else ""
        rows.append({"name": rule, "value": share, "low": low, "high": high, "tone": tone})
        table.append(
            (Cell(rule), number_cell(step.met), number_cell(step.broke), share_cell(share),
             Cell(interval(low, high)))
        )  # fmt: skip
    everyone = steps[0].everyone
    what = _what(steps)
    whom = "every sample that was right" if everyone else "the samples that still stood"
    return Figure(
        id,
        f"{what}, by gradient",
        "dots",
        {"rows": rows, "x": {"label": f"broken of {whom}"}},
        Table(
            f"What {what} breaks of {whom}",
            ("Gradient", "Met", "Broke", "Share", "95 % interval"),
            tuple(table),
        ),
        "All met the same samples."
        if everyone
        else "Each met what those above it left, so a later rule has the harder samples.",
        half=len(rows) <= SHORT,
    )


def _what(steps: Sequence[Step]) -> str:
    loss = loss_words(steps[0].attack)
    return search_words(steps[0].attack) + (f" with the loss {loss}" if loss else "")
