"""The verdict in one sentence, and the doubts about it with their evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikeproof.report._blocks import (
    BLANK,
    Card,
    Cards,
    Cell,
    Fact,
    Facts,
    Note,
    Section,
    Table,
    present,
)
from spikeproof.report._curves import claim, left_by, noise
from spikeproof.report._read import Evaluation
from spikeproof.report._words import (
    TONES,
    counted,
    interval,
    number_cell,
    percent,
    search_words,
    threat_words,
)

PLAIN = {
    "no evidence of masking": "no check found evidence of masking",
    "flagged": "flagged",
    "unreliable": "unreliable",
}
LABELS = {"pass": "passed", "flag": "flagged", "fail": "failed", "na": "not made"}


def verdict(found: Evaluation, claimed: float | None = None) -> str:
    """Returns the claimed number, the worst case and the doubts, in one sentence."""
    left = f"{percent(found.worst)} (95\u00a0% interval {interval(*found.interval)})"
    said = claimed_words(found, claimed)
    doubts = [c for c in found.values["checks"] if c["verdict"] in ("flag", "fail")]
    number = len(doubts) or len(found.values["finding"]["reasons"])
    judged = PLAIN.get(found.status, found.status)
    if number:
        judged = f"{judged}, with {counted(number, 'doubt')}"
    return (
        f"{found.name} keeps {left} of {counted(found.samples, 'sample')} within "
        f"{threat_words(found.threat)}{said}: {judged}."
    )


def claimed_words(found: Evaluation, claimed: float | None) -> str:
    """Returns what was claimed instead, by its authors or by the usual attack."""
    if claimed is not None:
        return f", where {percent(claimed)} were claimed"
    step = claim(found)
    if step is None:
        return ""
    how = f"{search_words(step.attack)} through its own gradient"
    return f", where {how} would claim {percent(left_by(found, step))}"


def headline(found: Evaluation, claimed: float | None = None, proved: Fact | None = None) -> Facts:
    """Returns the figures that one looks for first; ``proved`` is the lower bound, if known."""
    facts = [Fact("Clean", percent(found.accuracy), counted(found.samples, "sample"))]
    usual, dice = claim(found), noise(found)
    if claimed is not None:
        facts.append(Fact("Claimed", percent(claimed), "by its authors"))
    elif usual is not None:
        facts.append(Fact("Usual attack", percent(left_by(found, usual)), usual.id))
    if dice is not None:
        facts.append(Fact("Random noise", percent(left_by(found, dice)), "the reference"))
    worst = Fact("Worst case", percent(found.worst), f"95\u00a0%: {interval(*found.interval)}")
    tone = TONES.get(found.status, "")
    below = [proved] if proved else []
    return Facts((*facts, worst, *below, Fact("Finding", found.status, "", tone)), large=True)


def doubts_section(found: Evaluation, key: str) -> Section:
    """Returns what is doubtful, with its evidence, and all checks."""
    checks = [_plain(check) for check in found.values["checks"]]
    cards = [
        Card(
            f"{c['id']} · {c['name']}",
            _evidence(c),
            TONES.get(c["verdict"], ""),
            LABELS.get(c["verdict"], c["verdict"]),
        )
        for c in sorted(checks, key=lambda c: c["verdict"] != "fail")
        if c["verdict"] in ("fail", "flag")
    ]
    cards += [
        Card(step.id, step.message or "it raised", "bad", f"crashed on {sum(step.crashed)}")
        for step in found.steps
        if any(step.crashed)
    ]
    none = None if cards else Note(_nothing(checks, found))
    return Section(
        f"{key}-doubts",
        "Doubts",
        present([Cards(tuple(cards)) if cards else None, none, _checks(checks)]),
        "A robust accuracy is an upper bound, and a weak attack makes it a high one. These checks "
        "ask whether the attacks were weak. None of them can prove that a network is robust.",
    )


def _nothing(checks: list[dict[str, Any]], found: Evaluation) -> str:
    made = sum(check["verdict"] == "pass" for check in checks)
    if not checks:
        return f"No checks are in this record; its finding is {found.status}."
    return (
        f"{counted(made, 'check')} passed and none raised a doubt. That is no evidence of masking, "
        "and no proof of robustness."
    )


def _evidence(check: Mapping[str, Any]) -> str:
    measured = [
        f"{name} {value:.4g}"
        for name, value in (("value", check["value"]), ("threshold", check["threshold"]))
        if isinstance(value, int | float)
    ]
    said = " · ".join(measured)
    return f"{check['detail']} ({said})" if check["detail"] and said else check["detail"] or said


def _checks(checks: list[dict[str, Any]]) -> Table | None:
    if not checks:
        return None
    rows = tuple(
        (
            Cell(check["id"], float(check["id"][1:]) if check["id"][1:].isdigit() else None),
            Cell(check["name"]),
            Cell(LABELS.get(check["verdict"], check["verdict"]), tone=TONES[check["verdict"]]),
            number_cell(check["value"]),
            number_cell(check["threshold"]),
            Cell(check["detail"]) if check["detail"] else BLANK,
        )
        for check in checks
    )
    counts = {v: sum(check["verdict"] == v for check in checks) for v in LABELS}
    said = ", ".join(f"{count} {LABELS[v]}" for v, count in counts.items() if count)
    return Table(
        "Every check of the evaluation",
        ("Check", "Asks for", "Verdict", "Value", "Threshold", "Evidence"),
        rows,
        folded=f"All {counted(len(checks), 'check')}: {said}",
    )


def _plain(check: Mapping[str, Any]) -> dict[str, Any]:
    texts = {k: str(check.get(k) or "") for k in ("id", "name", "verdict", "detail")}
    numbers = {k: check.get(k) for k in ("value", "threshold")}
    known = texts["verdict"] if texts["verdict"] in LABELS else "na"
    return (
        texts
        | {"verdict": known}
        | {k: v if isinstance(v, int | float) else None for k, v in numbers.items()}
    )
