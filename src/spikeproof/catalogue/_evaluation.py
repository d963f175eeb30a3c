"""Threats and suites that are written as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

from spikeproof.attacks import Attack, Threat
from spikeproof.catalogue._kinds import KINDS
from spikeproof.catalogue._read import from_values
from spikeproof.catalogue._toml import read_toml
from spikeproof.errors import Refusal, nearest, short
from spikeproof.evaluate import Step, Suite, Theirs
from spikeproof.spiking import BPTT, CBA, Rule, Surrogate

OWN = "own"  # the gradient of the network itself


@dataclass(frozen=True)
class _Step:
    id: str
    attack: Attack | None = None
    theirs: Theirs | None = None
    everyone: bool = False
    limit: int = 0


def read_threat(text: str) -> Threat:
    """Returns the threat of a text: ``linf:8/255``, ``flips:200:false``, ``retiming:b0:1000``.

    After the kind come its values: each goes to the first free field of its type.
    """
    kind, *words = text.split(":")
    known: dict[str, Any] = {vars(member)["kind"]: member for member in KINDS[Threat]}
    if kind not in known:
        raise Refusal(f"{short(text)} is no threat; {nearest(kind, known)}")
    made = known[kind]
    fields = {f.name: f for f in dataclasses.fields(made) if f.name != "kind"}
    hints = get_type_hints(made)
    values: dict[str, Any] = {"kind": kind}
    for word in words:
        left = (name for name in fields if name not in values)
        found = ((name, _value(word, hints[name])) for name in left)
        match = next(((name, value) for name, value in found if value is not None), None)
        if match is None:
            raise Refusal(
                f"{short(text)} has {short(word)}, which fits no field; {_form(kind, fields)}"
            )
        values[match[0]] = match[1]
    if missing := [n for n, f in fields.items() if f.default is MISSING and n not in values]:
        raise Refusal(f"{short(text)} lacks {missing[0]}; {_form(kind, fields)}")
    return from_values(made, values, text)


def threat_of(values: Mapping[str, Any]) -> Threat:
    """Returns the threat that a record tells of."""
    known: dict[str, Any] = {vars(member)["kind"]: member for member in KINDS[Threat]}
    kind = str(values.get("kind"))
    if kind not in known:
        raise Refusal(f"{short(kind)} is no threat; {nearest(kind, known)}")
    return from_values(known[kind], values, "threat")


def read_rule(name: str) -> Rule | CBA | None:
    """Returns the gradient rule of a kind, BPTT through a surrogate's kind, or None for ``own``."""
    rules: dict[str, Any] = {vars(kind)["kind"]: kind for kind in (*KINDS[Rule], CBA)}
    curves: dict[str, Any] = {vars(kind)["kind"]: kind for kind in KINDS[Surrogate]}
    if name == OWN:
        return None
    if name in rules:
        return from_values(rules[name], {"kind": name}, name)
    if name in curves:
        return BPTT(from_values(curves[name], {"kind": name}, name))
    raise Refusal(f"{name!r} is no gradient rule; {nearest(name, (OWN, *rules, *curves))}")


def read_suite(path: Path) -> Suite:
    """Returns the suite of a TOML file: a name, and a table ``[[steps]]`` for each attack."""
    values = read_toml(path)
    if unknown := sorted(values.keys() - {"name", "steps"}):
        raise Refusal(
            f"{path}: {unknown[0]} is not known; {nearest(unknown[0], ['name', 'steps'])}"
        )
    name, steps = values.get("name", path.stem), values.get("steps", [])
    if not isinstance(name, str) or not isinstance(steps, list):
        raise Refusal(f"{path}: name is a text and steps are tables [[steps]]; write them so")
    read = [
        from_values(_Step, _table(path, s), f"{path}: step {i}") for i, s in enumerate(steps, 1)
    ]
    return Suite(name, tuple(Step(s.id, _chosen(path, s), s.everyone, s.limit) for s in read))


def _chosen(path: Path, step: _Step) -> Attack | Theirs:
    if (step.attack is None) == (step.theirs is None):
        raise Refusal(
            f"{path}: step {step.id} has {'both' if step.attack else 'neither'} of attack and "
            "theirs; a step is one attack, ours or of another package; write one"
        )
    return step.attack or step.theirs  # type: ignore[return-value]  # one of them is there


def _table(path: Path, step: Any) -> dict[str, Any]:
    if not isinstance(step, dict):
        raise Refusal(f"{path}: a step is {short(step)}; it must be a table [[steps]]; write it so")
    return step


def _form(kind: str, fields: Iterable[str]) -> str:
    return f"a threat has the form {kind}:{':'.join(fields)}; write for example linf:8/255"


def _value(word: str, hint: Any) -> float | int | bool | str | None:
    """Returns the word as a value of this type, or None where it is none."""
    try:
        if hint is float:
            return float(Fraction(word))
        if hint is int:
            return int(word)
    except (ValueError, ZeroDivisionError):
        return None
    if hint is bool:
        return {"true": True, "false": False}.get(word)
    return word if word in get_args(hint) else None
