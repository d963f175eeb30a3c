"""Accuracy against the budget and against the attacker's queries, with noise as reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spikeproof.report._blocks import Cell, Figure, Note, Section, Table, present
from spikeproof.report._read import Evaluation, Step
from spikeproof.report._words import (
    interval,
    number,
    number_cell,
    rule_of,
    rule_words,
    search_words,
    share_cell,
    size_of,
    threat_words,
)
from spikeproof.statistics import steps_curve, wilson

SHOWN = 8  # curves over queries in one figure
POINTS = 60  # of one curve
LIKE = ("kind", "low", "high")

Point = tuple[float, float, float, float, int]  # budget, share, its interval, samples


def accuracy_section(found: Evaluation, key: str) -> Section:
    """Returns the curves of an evaluation."""
    budgets = budget_figure(found, key)
    note = None
    if budgets is None:
        note = Note(
            "This suite measured no curve over budgets; the suites standard and full do, on the "
            "first samples."
        )
    return Section(
        f"{key}-accuracy",
        "Accuracy against the attacker",
        present([budgets, note, query_figure(found, key)]),
        "What is left as the attacker may change more, and as it asks more often. Random noise of "
        "the same budget is the reference: what it breaks needs no attacker.",
    )


def budget_curve(found: Evaluation) -> list[Point]:
    """Returns what stands at every budget of the suite's curve, and at none."""
    known = {step.id: step for step in found.steps}
    named = _curve_steps(found)
    points = []
    for size, id in sorted(named):
        step = known.get(id)
        if step is not None and not step.skipped:
            points.append(_at(size, found, step))
    if not points:
        return []
    among = first(found, max(known[id].limit for _, id in named if id in known))
    right = sum(found.clean[i] for i in among)
    return [_point(0.0, right, len(among)), *points]


def _curve_steps(found: Evaluation) -> list[tuple[float, str]]:
    """Returns the budgets of the curve and the steps that measured them."""
    named = found.roles.get("eps") or [
        (size, s.id)
        for s in found.steps
        if not s.counts and same_norm(s.threat, found.threat) and (size := size_of(s.threat))
    ]
    return [(float(size), str(id)) for size, id in named]


def noise(found: Evaluation) -> Step | None:
    """Returns the step that adds random noise and looks for no direction."""
    named = found.roles.get("random") or ["S1-random"]
    return next((step for id in named if (step := found.step(id))), None)


def claim(found: Evaluation) -> Step | None:
    """Returns what the usual attack would have claimed: the longest that all samples meet."""
    met = [found.step(id) for id in (*_ids(found, "single"), *_ids(found, "iterative"))]
    own = [step for step in met if step and step.everyone and rule_of(step.attack) is None]
    return own[-1] if own else None


def left_by(found: Evaluation, step: Step) -> float:
    """Returns the share that is right and stands after one step alone."""
    pairs = zip(found.clean, step.success, strict=True)
    return sum(right and not hit for right, hit in pairs) / found.samples


def budget_figure(found: Evaluation, key: str) -> Figure | None:
    """Returns accuracy against the budget, or None where there is no curve."""
    curve, at = budget_curve(found), size_of(found.threat)
    if not curve or at is None:
        return None
    among = curve[0][4]
    ids = [id for _, id in _curve_steps(found)]
    main = next((s for s in found.steps if s.id in ids), None)
    name = f"{search_words(main.attack)}, {rule_words(rule_of(main.attack))}" if main else "curve"
    marks = _marks(found, at)
    rows = [
        (number_cell(x), Cell(name), share_cell(y), Cell(interval(low, high)), number_cell(n))
        for x, y, low, high, n in curve
    ]
    rows += [
        (
            number_cell(mark["x"]),
            Cell(mark["name"]),
            share_cell(mark["y"]),
            Cell(interval(mark["low"], mark["high"])),
            number_cell(found.samples),
        )
        for mark in marks
    ]
    return Figure(
        f"{key}-budgets",
        "Accuracy against the budget",
        "lines",
        {
            "x": {"label": f"budget, {unit(found)}", "scale": "sqrt", "at": at},
            "series": [{"name": name, "tone": "attack", "points": [p[:4] for p in curve]}],
            "marks": marks,
        },
        Table(
            "Share of samples that stand at each budget",
            ("Budget", "Attack", "Stands", "95 % interval", "Samples"),
            tuple(rows),
        ),
        f"The curve is one attack on the first {among} samples; the marks at {number(at)} are of "
        f"all {found.samples}. Whiskers and band are 95 % intervals.",
    )


def query_figure(found: Evaluation, key: str) -> Figure | None:
    """Returns what stands against the queries that an attack spent on a sample."""
    series, rows = [], []
    standing = list(found.clean)
    drawn = _drawn(found)
    for step in found.steps:
        if step.skipped or not step.counts:
            continue
        before = found.clean if step.everyone else tuple(standing)
        standing = [a and not b for a, b in zip(standing, step.success, strict=True)]
        if step.id not in drawn:
            continue
        curve = list(steps_curve(before, step.success, step.at))
        curve = _thinned([*curve, (max(step.most, curve[-1][0]), curve[-1][1])])
        tone = "noise" if noise(found) is step else ""
        points = [[max(1, query), share] for query, share in curve]
        series.append({"name": step.id, "tone": tone, "points": points})
        begins, ends = Cell("everyone" if step.everyone else "survivors"), curve[-1]
        rows.append(
            (Cell(step.id), begins, share_cell(curve[0][1]), share_cell(ends[1]),
             number_cell(ends[0]))
        )  # fmt: skip
    if not series:
        return None
    return Figure(
        f"{key}-queries",
        "Accuracy against queries",
        "lines",
        {
            "x": {"label": "forward passes on a sample", "scale": "log"},
            "series": series,
            "marks": [],
            "steps": True,
        },
        Table(
            "What stands before and after each attack that is drawn",
            ("Attack", "Met", "Before", "After", "Queries at most"),
            tuple(rows),
        ),
        "Attacks that met survivors begin where those before them ended. A curve that still falls "
        "at its end has not converged." + _others(found, drawn),
    )


def _others(found: Evaluation, drawn: set[str]) -> str:
    count = sum(s.counts and not s.skipped and s.id not in drawn for s in found.steps)
    return f" {count} more attacks are in the tables." if count else ""


def _drawn(found: Evaluation) -> set[str]:
    """Returns noise, the claim, the primary attack, and those which broke most."""
    first = [noise(found), claim(found), found.step(str(found.roles.get("primary", "")))]
    chosen = [step.id for step in first if step]
    counted = [step for step in found.steps if step.counts and not step.skipped and step.broke]
    chosen += [step.id for step in sorted(counted, key=lambda s: -s.broke)]
    return set(list(dict.fromkeys(chosen))[:SHOWN])


def _thinned(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(curve) <= POINTS:
        return list(curve)
    step = (len(curve) - 1) / (POINTS - 1)
    return [curve[round(i * step)] for i in range(POINTS)]


def _marks(found: Evaluation, at: float) -> list[dict[str, Any]]:
    low, high = found.interval
    marks = [
        {"name": "worst case of the suite", "tone": "worst", "x": at, "y": found.worst,
         "low": low, "high": high}
    ]  # fmt: skip
    for step, name, tone in (
        (noise(found), "random noise", "noise"),
        (claim(found), "", "claim"),
    ):
        if step:
            share = left_by(found, step)
            low, high = wilson(round(share * found.samples), found.samples)
            said = name or f"{search_words(step.attack)}, {rule_words(rule_of(step.attack))}"
            marks.append(
                {"name": said, "tone": tone, "x": at, "y": share, "low": low, "high": high}
            )
    return marks


def first(found: Evaluation, limit: int) -> list[int]:
    return [i for i, place in enumerate(found.places) if not limit or place < limit]


def _at(size: float, found: Evaluation, step: Step) -> Point:
    among = first(found, step.limit)
    left = sum(found.clean[i] and not step.success[i] for i in among)
    return _point(size, left, len(among))


def _point(size: float, left: int, among: int) -> Point:
    return (size, left / among, *wilson(left, among), among)


def same_norm(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return one is not None and all(one.get(k) == other.get(k) for k in LIKE)


def _ids(found: Evaluation, role: str) -> Sequence[str]:
    return found.roles.get(role) or []


def unit(found: Evaluation) -> str:
    return threat_words(found.threat).partition(" ")[0]
