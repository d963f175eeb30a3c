"""A diagnosis at the terminal: a model, its samples, and what its gradients hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from spikeproof.attacks import Threat
from spikeproof.catalogue import OWN, read_rule, read_threat
from spikeproof.cli._evaluate import Target, load_target, named, watched
from spikeproof.cli._terminal import tell, terminal
from spikeproof.cli._train import pick_device
from spikeproof.evaluate import PARTS, Conditions, Diagnosis, Progress, diagnose, overview
from spikeproof.spiking import keep_large_blocks

USUAL = 64  # samples; of a smaller set, all
NEAR = "0.001"  # the threshold that is printed


def diagnose_command(
    target: Target,
    threat: str,
    rules: Sequence[str],
    parts: Sequence[str],
    out: Path,
    conditions: Conditions,
    console: Console | None = None,
) -> Diagnosis:
    """Returns the record of the diagnosis, which is also written to ``out``."""
    console = console or terminal()
    keep_large_blocks()
    chosen, met = [read_rule(name) for name in rules or (OWN,)], read_threat(threat)
    model, dataset = load_target(target, console)
    limit, count = conditions.limit, len(dataset.test)
    conditions = replace(conditions, limit=min(limit, count) if limit == USUAL else limit)
    console.print(
        f"{dataset.name}: {conditions.limit or count} of {count} test samples; "
        f"{named(model)} under {threat}"
    )
    with watched(console, "diagnosis", _told) as watch:
        diagnosis = diagnose(
            model.to(pick_device(target.device)),
            dataset,
            met,
            rules=chosen,
            out=out,
            conditions=conditions,
            watch=watch,
            only=parts or PARTS,
        )
    report(console, diagnosis, met)
    tell(console, f"record: {out / 'record.json'}")
    return diagnosis


def report(console: Console, diagnosis: Diagnosis, threat: Threat) -> None:
    """Prints the numbers that are looked for first."""
    told, name = overview(diagnosis), _names(diagnosis.rules)
    for inputs, seen in told["seen"].items():
        _seen(console, inputs, seen, name)
    for v in told["vulnerability"]:
        console.print(
            f"{v['forward']} forward, {name[v['rule']]}, eps {v['eps']:.4g}: median ratio "
            f"{_number(v['ratio'])}, {_number(v['linear'])} by the gradient; bounds 3 and "
            f"{_number(v['upper'])} violated by {_share(v['below'])} below, {_share(v['above'])} "
            "above"
        )
    for over, points in _curves(told["curves"], name).items():
        console.print(f"standing by {over}: {', '.join(points)}")
    for slope in told["slopes"]:
        console.print(
            f"gradient and differences of {slope['step']:.4g} agree in "
            f"{_share(slope['agreement'])} of directions ({name[slope['rule']]})"
        )
    if place := told["domains"]:
        console.print(
            f"same attack, eps {place['eps']:.4g}: {_share(place['sensor'])} stand where the "
            f"input is attacked, {_share(place['spikes'])} where the encoded steps are, "
            f"{_share(place['legal'])} once these are what the encoder emits"
        )
    for note in diagnosis.notes:
        console.print(f"note: {note}")
    if diagnosis.finding:
        tell(console, f"doubts under {threat.kind}: {diagnosis.finding.status}")
        for reason in diagnosis.finding.reasons:
            tell(console, f"  {reason}")


def _seen(console: Console, inputs: str, seen: dict[str, Any], name: dict[str, str]) -> None:
    tell(console, f"{inputs}: accuracy {_share(seen['accuracy'])}")
    rates = ", ".join(f"{name} {_share(rate)}" for name, rate in seen["rate"].items())
    console.print(f"  spikes per neuron and step: {rates or 'unknown'}")
    for rule, operations in seen["trails"].items():
        console.print(f"  gradient by {name[rule]}: exact zeros, below {NEAR} of the largest, l2")
        for op in operations:
            console.print(
                f"    {op['name']} ({op['kind']}): {_share(op['zeros'])}, "
                f"{_share(op['near'][NEAR])}, {_number(op['l2'])}"
            )


def _names(rules: Sequence[str]) -> dict[str, str]:
    """Returns rules without their knobs, where that tells them apart."""
    bare = [rule.partition("(")[0] for rule in rules]
    pairs = zip(rules, bare, strict=True)
    return {rule: head if bare.count(head) == 1 else rule for rule, head in pairs}


def _curves(points: Sequence[dict[str, Any]], name: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for point in points:
        at = name.get(point["name"]) or f"{point['value']:.4g}"
        found.setdefault(point["over"], []).append(f"{_share(point['standing'])} at {at}")
    return found


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _told(p: Progress, left: str) -> tuple[str, str]:
    return f"{p.number}/{p.steps} {p.step}", f"{p.rate:,.1f} samples/s, {left} left in it"
