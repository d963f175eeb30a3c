"""How a page says numbers, threats, rules and attacks of a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spikeproof.report._blocks import BLANK, Cell, Tone

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0", "relaxed_linf": "relaxed L∞"}
SIZES = ("eps", "k", "budget")
OWN = "own gradient"
SEARCHES = {
    "pgd": "PGD", "apgd": "APGD", "sapgd": "SA-PGD", "fgsm": "FGSM", "rfgsm": "R-FGSM",
    "mifgsm": "MI-FGSM", "fab": "FAB", "sda": "SDA", "sea": "SEA", "apgd_l1": "APGD (L1)",
    "square": "Square", "hop_skip_jump": "HopSkipJump", "spike_fool": "SpikeFool",
    "random": "random noise",
}  # fmt: skip
LOSSES = {"ce": "cross entropy", "dlr": "DLR", "dlr_targeted": "targeted DLR"}
TONES: Mapping[str, Tone] = {
    "no evidence of masking": "good",
    "flagged": "warn",
    "unreliable": "bad",
    "pass": "good",
    "flag": "warn",
    "fail": "bad",
    "na": "quiet",
}


def percent(share: float, digits: int = 1) -> str:
    r"""Returns a share in hundredths.

    >>> percent(0.69531)
    '69.5\xa0%'
    """
    return f"{100 * share:.{digits}f}\u00a0%"


def share_cell(share: float) -> Cell:
    """Returns a cell that says a share in hundredths."""
    return Cell(percent(share), share)


def number(value: float, digits: int = 3) -> str:
    """Returns a number as short as it can be read.

    >>> number(12345.6), number(0.05), number(7)
    ('12,346', '0.05', '7')
    """
    if not math.isfinite(value):
        return str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def number_cell(value: float | None, digits: int = 3) -> Cell:
    """Returns a cell that says a number, or that there is none."""
    return BLANK if value is None else Cell(number(value, digits), float(value))


def interval(low: float, high: float) -> str:
    """Returns an interval of shares in hundredths."""
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Returns a number of things.

    >>> counted(1, "doubt"), counted(1200, "sample")
    ('1 doubt', '1,200 samples')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size_of(threat: Mapping[str, Any] | None) -> float | None:
    """Returns the budget of a threat."""
    found = [(threat or {}).get(name) for name in SIZES]
    return next((float(size) for size in found if isinstance(size, int | float)), None)


def threat_words(threat: Mapping[str, Any]) -> str:
    """Returns a threat as the literature writes it.

    >>> threat_words({"kind": "linf", "eps": 0.05, "low": 0.0, "high": 1.0})
    'L∞ ≤ 0.05'
    """
    kind, size = str(threat.get("kind", "unknown threat")), size_of(threat)
    name = NORMS.get(kind, kind.replace("_", " "))
    said = name if size is None else f"{name} ≤ {number(size)}"
    rest = (_told(k, v) if isinstance(v, bool) else str(v) for k, v in _others(threat))
    return ", ".join([said, *rest])


def threat_text(threat: Mapping[str, Any]) -> str:
    """Returns a threat as the command line takes it.

    >>> threat_text({"kind": "flips", "k": 20, "binary": False})
    'flips:20:false'
    """
    size, ends = size_of(threat), [threat.get("low"), threat.get("high")]
    values = [] if size is None else [size]
    if ends not in ([None, None], [0, 1]):
        values += [float(end) for end in ends if isinstance(end, int | float)]
    words = [repr(int(value) if value == int(value) else value) for value in values]
    words += [str(v).lower() if isinstance(v, bool) else str(v) for _, v in _others(threat)]
    return ":".join([str(threat.get("kind", "")), *words])


def rule_words(rule: Any) -> str:
    """Returns the name of a gradient rule and its surrogate.

    >>> rule_words({"kind": "bptt", "surrogate": {"kind": "atan", "alpha": 4.0}})
    'bptt, atan(4)'
    """
    if not isinstance(rule, Mapping):
        return OWN if rule is None else str(rule)
    name, surrogate = str(rule.get("kind", "rule")), rule.get("surrogate")
    numbers = [v for k, v in rule.items() if isinstance(v, float) and k in ("vanishing", "gamma")]
    if numbers:
        name += f"({number(numbers[0])})"
    if isinstance(surrogate, Mapping):
        widths = [number(v) for v in surrogate.values() if isinstance(v, int | float)]
        name += f", {surrogate.get('kind', 'surrogate')}({', '.join(widths)})"
    return name


def told_apart(rules: Sequence[Any]) -> tuple[str, ...]:
    """Returns the names of rules; where two are the same, with what differs between them."""
    names = [rule_words(rule) for rule in rules]
    flat = [_flat(rule) for rule in rules]
    said = []
    for name, mine in zip(names, flat, strict=True):
        twins = [other for text, other in zip(names, flat, strict=True) if text == name]
        differing = sorted(k for k in mine if any(twin.get(k) != mine[k] for twin in twins))
        said.append("; ".join([name, *(_told(k, mine.get(k)) for k in differing)]))
    return tuple(said)


def search_words(attack: Any) -> str:
    """Returns the search of an attack with its iterations."""
    if not isinstance(attack, Mapping):
        return str(attack)
    search = attack.get("search") or {}
    if not isinstance(search, Mapping):
        return str(search)
    kind = str(search.get("kind", "attack"))
    name = SEARCHES.get(kind, kind.replace("_", " "))
    steps = next((search[k] for k in ("steps", "queries", "draws") if k in search), None)
    name += f"-{steps}" if isinstance(steps, int) else ""
    targets, restarts = search.get("targets"), attack.get("restarts", 1)
    name += f", {targets} targets" if isinstance(targets, int) and targets > 1 else ""
    return name + (f" \u00d7 {restarts}" if isinstance(restarts, int) and restarts > 1 else "")


def loss_words(attack: Any) -> str:
    """Returns the loss of an attack."""
    loss = attack.get("loss") if isinstance(attack, Mapping) else None
    kind = str(loss.get("kind", "")) if isinstance(loss, Mapping) else ""
    return LOSSES.get(kind, kind.replace("_", " "))


def rule_of(attack: Any) -> Any:
    """Returns the rule of an attack, None being the network's own gradient."""
    return attack.get("rule") if isinstance(attack, Mapping) else None


def listed(words: Iterable[str]) -> str:
    """Returns words as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def seconds(value: float) -> str:
    """Returns a span of time.

    >>> seconds(42), seconds(801), seconds(7300)
    ('42 s', '13 min', '2.0 h')
    """
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _others(threat: Mapping[str, Any]) -> list[tuple[str, Any]]:
    known = ("kind", "low", "high", *SIZES)
    return [(name, value) for name, value in threat.items() if name not in known]


def _told(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"not {words}"
    return f"{words} {_short(value)}"


def _short(value: Any) -> str:
    return number(value) if type(value) in (int, float) else str(value)


def _flat(rule: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(rule, Mapping):
        return {key: rule}
    return {k: v for name, inner in rule.items() for k, v in _flat(inner, name).items()}
