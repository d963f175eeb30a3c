"""Certificates beside attacks: what is proved, what fell, and whether the two contradict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spikeproof.report._blocks import (
    BLANK,
    Card,
    Cards,
    Cell,
    Fact,
    Figure,
    Section,
    Table,
    Tone,
    present,
)
from spikeproof.report._curves import Point, budget_curve, first, same_norm, unit
from spikeproof.report._read import Bits, Certificate, Evaluation, Step
from spikeproof.report._words import (
    SIZES,
    counted,
    interval,
    number_cell,
    percent,
    share_cell,
    size_of,
    threat_words,
)
from spikeproof.statistics import wilson

SANDWICH = "sandwich"
METHODS = {
    "ibp": "interval bounds",
    "crown": "linear bounds",
    "exact": "every input asked",
    "smoothing": "vote over Gaussian noise",
    "rate_coding": "vote over Poisson spikes",
}


def certificate_section(
    certificates: Sequence[Certificate], key: str, found: Evaluation | None = None
) -> Section | None:
    """Returns what is proved of a network, beside what the attacks of ``found`` left of it."""
    if not certificates:
        return None
    ordered = sorted(certificates, key=lambda c: (c.method, size_of(c.threat) or 0.0))
    cards = [card for c in ordered if (card := _contradiction(c, found))]
    heads = (
        "Method", "Threat", "Samples", "Clean", "Certified", "95\u00a0% interval", "Attacked",
        "Sandwich",
    )  # fmt: skip
    rows = tuple(_row(c, found) for c in ordered)
    return Section(
        key,
        "Certificates beside attacks",
        present(
            [
                Cards(tuple(cards)) if cards else None,
                _figure(ordered, key, found),
                Table("What is proved, and what attacks left", heads, rows),
            ]
        ),
        "A certificate proves that no input within the threat changes an answer: a lower bound of "
        "the robust accuracy, where attacks give an upper one. The truth lies between the two, "
        "sample by sample; a certified sample that fell proves one of them wrong.",
    )


def certified_fact(certificates: Sequence[Certificate], found: Evaluation) -> Fact | None:
    """Returns the largest share that is proved of the network's own answers under its threat."""
    same = [c for c in certificates if dict(c.threat) == dict(found.threat) and not c.votes]
    same = [c for c in same if c.weights == found.weights]
    if not same:
        return None
    best = max(same, key=lambda c: c.share)
    tone: Tone = "bad" if any(_finding(c, found).tone == "bad" for c in same) else ""
    note = f"{_method(best)}, {counted(len(best.clean), 'sample')}"
    return Fact("Certified", percent(best.share), note, tone)


def _row(one: Certificate, found: Evaluation | None) -> tuple[Cell, ...]:
    low, high = wilson(sum(one.certified), len(one.certified))
    return (
        Cell(_method(one)),
        Cell(threat_words(one.threat)),
        number_cell(len(one.clean)),
        share_cell(sum(one.clean) / len(one.clean)),
        share_cell(one.share),
        Cell(interval(low, high)),
        _attacked(one, found),
        _finding(one, found),
    )


def _attacked(one: Certificate, found: Evaluation | None) -> Cell:
    """Returns what attacks within the very threat of a certificate left, of those they met."""
    if found is None or _apart(one, found):
        return BLANK
    if dict(found.threat) == dict(one.threat):
        return share_cell(found.worst)
    met = [s for s in found.steps if not s.skipped and _threat(s, found) == dict(one.threat)]
    if not met:
        return BLANK
    among = first(found, min(step.limit or found.samples for step in met))
    fell = _any(step.success for step in met)
    return share_cell(sum(found.clean[i] and not fell[i] for i in among) / len(among))


def _finding(one: Certificate, found: Evaluation | None) -> Cell:
    verdict = _told(one).get("verdict")
    if verdict not in (None, "pass"):
        return Cell("failed when it was made", tone="bad")
    reason = _apart(one, found)
    if found is None or reason:
        if verdict:
            return Cell("passed when it was made", tone="good")
        return Cell(reason, tone="quiet")
    if not _inside(one, found):
        return Cell("not attacked within this budget", tone="quiet")
    wrong = _broken(one, found)
    if wrong:
        return Cell(f"{counted(wrong, 'sample')} certified and broken", tone="bad")
    return Cell("no certified sample fell", tone="good")


def _contradiction(one: Certificate, found: Evaluation | None) -> Card | None:
    """Returns what to worry about where an attack broke what was proved to stand."""
    finding, detail = _finding(one, found), _told(one).get("detail")
    if finding.tone != "bad":
        return None
    evidence = f" ({detail})" if detail else ""
    return Card(
        f"{SANDWICH} · {_method(one)}, {threat_words(one.threat)}",
        f"{finding.text}{evidence}: the bound, the judge or the network that both were told of is "
        "wrong",
        "bad",
        "failed",
    )


def _told(one: Certificate) -> Mapping[str, Any]:
    """Returns the comparison with an evaluation that a certificate keeps, if it has one."""
    return next((check for check in one.checks if check.get("id") == SANDWICH), {})


def _apart(one: Certificate, found: Evaluation | None) -> str:
    """Returns why a certificate and an evaluation cannot contradict each other, or nothing."""
    if found is None:
        return "not attacked"
    if one.weights != found.weights:
        return "not compared: other weights"
    if one.votes:
        return "not compared: a vote is another classifier"
    data = found.values["data"]
    if one.samples != (data.get("tensor_sha256"), data.get("label_sha256")):
        return "not compared: other samples"
    return ""


def _inside(one: Certificate, found: Evaluation) -> list[Step]:
    """Returns the attacks whose inputs a certificate speaks of."""
    ran = [step for step in found.steps if not step.skipped]
    return [step for step in ran if _within(_threat(step, found), one.threat)]


def _broken(one: Certificate, found: Evaluation) -> int:
    """Returns how many samples are certified and broken all the same."""
    rows = [step.success for step in _inside(one, found)]
    fell = _any([*rows, tuple(not right for right in found.clean)])
    pairs = zip(found.places, fell, strict=True)
    return sum(hit and one.certified[place] for place, hit in pairs)


def _any(rows: Iterable[Bits]) -> Bits:
    return tuple(any(column) for column in zip(*rows, strict=True))


def _threat(step: Step, found: Evaluation) -> dict[str, Any]:
    return dict(found.threat if step.threat is None else step.threat)


def _within(threat: Mapping[str, Any], of: Mapping[str, Any]) -> bool:
    """Returns whether every input that one threat admits is admitted by the other."""
    size, most = size_of(threat), size_of(of)
    rest, other = ({k: v for k, v in t.items() if k not in SIZES} for t in (threat, of))
    if size is None or most is None:
        return rest == other and size == most
    return rest == other and size <= most


def _figure(ordered: Sequence[Certificate], key: str, found: Evaluation | None) -> Figure | None:
    """Returns lower and upper bounds against the budget, where both are of the same network."""
    at = None if found is None else size_of(found.threat)
    if found is None or at is None:
        return None
    own = [c for c in ordered if c.weights == found.weights and not c.votes]
    own = [c for c in own if same_norm(c.threat, found.threat)]
    if not own:
        return None
    curves = {"attacked": budget_curve(found)} | {
        f"certified, {name}": _proved([c for c in own if _method(c) == name])
        for name in dict.fromkeys(map(_method, own))
    }
    curves = {name: points for name, points in curves.items() if points}
    series = [
        {"name": n, "tone": "attack" if n == "attacked" else "", "points": [p[:4] for p in points]}
        for n, points in curves.items()
    ]
    low, high = found.interval
    mark = {
        "name": "worst case of the suite", "tone": "worst", "x": at,
        "y": found.worst, "low": low, "high": high,
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = [
        (number_cell(x), Cell(name), share_cell(y), Cell(interval(a, b)), number_cell(n))
        for name, points in curves.items()
        for x, y, a, b, n in points
    ]
    rows.append(
        (number_cell(at), Cell(str(mark["name"])), share_cell(found.worst),
         Cell(interval(low, high)), number_cell(found.samples))
    )  # fmt: skip
    return Figure(
        f"{key}-bounds",
        "Bounds from both sides",
        "lines",
        {
            "x": {"label": f"budget, {unit(found)}", "scale": "sqrt"},
            "series": series,
            "marks": [mark],
        },
        Table(
            "Share of samples that are proved to stand, and that attacks left",
            ("Budget", "Bound", "Stands", "95 % interval", "Samples"),
            tuple(rows),
        ),
        "What is certified is a lower bound, what attacks left an upper one. Each is of its own "
        "samples, whose number is in the table.",
    )


def _proved(own: Sequence[Certificate]) -> list[Point]:
    """Returns what is certified at each budget, of the most samples, and what is right at none."""
    best: dict[float, Certificate] = {}
    for one in own:
        size = size_of(one.threat) or 0.0
        if size not in best or len(one.clean) > len(best[size].clean):
            best[size] = one
    most = max(best.values(), key=lambda one: len(one.clean))
    bits = {0.0: most.clean} | {size: best[size].certified for size in sorted(best)}
    return [(size, sum(b) / len(b), *wilson(sum(b), len(b)), len(b)) for size, b in bits.items()]


def _method(one: Certificate) -> str:
    return METHODS.get(one.method, one.method.replace("_", " "))
