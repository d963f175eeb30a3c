"""A suite whose curves are told by masked gradients: over width, iterations, budget and rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from spikeproof.attacks import (
    APGD,
    L0,
    L1,
    L2,
    PGD,
    Attack,
    Flips,
    Linf,
    Retiming,
    RetimingSearch,
    Search,
    SparseSearch,
    Threat,
    TopK,
)
from spikeproof.errors import Refusal
from spikeproof.evaluate._record import Record
from spikeproof.evaluate._roles import SIZES
from spikeproof.evaluate._suite import Step, Suite
from spikeproof.evaluate._trials import named
from spikeproof.spiking import BPTT, CBA, Rule, Spiking, Triangle

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of a triangle, in units of the threshold
ITERATIONS = (1, 2, 5, 10, 20, 40)
USUAL = 10
BUDGETS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)  # times the threat's
OWN = "own"

Over = Literal["width", "steps", "budget", "rule"]
SEARCHES: tuple[tuple[tuple[type[Threat], ...], type[Any]], ...] = (
    ((Linf, L2), PGD),
    ((L1,), APGD),
    ((L0,), SparseSearch),
    ((Flips,), TopK),
    ((Retiming,), RetimingSearch),
)


@dataclass(frozen=True)
class Point:
    """One point of a curve: which samples are right and withstand the attack there."""

    over: Over
    value: float
    name: str
    standing: tuple[bool, ...]
    skipped: str = ""  # why it was not measured


def climber(threat: Threat, steps: int = USUAL) -> Search:
    """Returns the plain ascent under a threat: PGD, or what comes nearest to it."""
    for kinds, search in SEARCHES:
        if isinstance(threat, kinds):
            return search(steps=steps)
    raise Refusal(
        f"{threat} has no ascent that is known; curves follow gradients; take one of "
        f"{', '.join(kind.__name__ for kinds, _ in SEARCHES for kind in kinds)}"
    )


def sweeps(model: nn.Module, threat: Threat, rules: Sequence[Rule | CBA | None] = (None,)) -> Suite:
    """Returns the suite of all curves; a network without neurons of ours has no widths."""
    steps = [Step(OWN, Attack(climber(threat)))]
    steps += [_step(f"steps-{n}", threat, Attack(climber(threat, n))) for n in ITERATIONS]
    usual = Attack(climber(threat))
    steps += [_step(f"budget-{size:.4g}", at, usual) for size, at in _budgets(threat)]
    ours = any(isinstance(module, Spiking) for module in model.modules())
    for width in WIDTHS if ours else ():
        steps.append(_step(f"width-{width:g}", threat, replace(usual, rule=BPTT(Triangle(width)))))
    for number, rule in enumerate(rules):
        if rule is not None:
            steps.append(_step(f"rule-{number}", threat, replace(usual, rule=rule)))
    return Suite("curves", tuple(steps))


def points(record: Record, rules: Sequence[Rule | CBA | None] = (None,)) -> tuple[Point, ...]:
    """Returns the curves of a record of that suite."""
    found = []
    for step in record.steps:
        over, _, text = step.id.partition("-")
        if step.id == OWN:
            continue
        name = named(rules[int(text)]) if over == "rule" else ""
        value = _size(step.threat) if over == "budget" else float(text)
        pairs = zip(record.clean, step.success, strict=True)
        standing = tuple(right and not fell for right, fell in pairs)
        kind: Any = over
        found.append(Point(kind, value, name, standing, step.skipped))
    return tuple(found)


def _step(id: str, threat: Threat, attack: Attack) -> Step:
    return Step(id, attack, threat=threat)


def _size(threat: Any) -> float:
    return float(next(threat[name] for name in SIZES if name in threat))


def _budgets(threat: Any) -> Iterator[tuple[float, Threat]]:
    """Yields the budgets around the threat's own that make sense, with their threats."""
    name = next(name for name in SIZES if hasattr(threat, name))
    size = getattr(threat, name)
    most = threat.high - threat.low if isinstance(threat, Linf) else float("inf")
    whole = isinstance(threat, L0 | Flips | Retiming)
    sizes = {round(size * factor) if whole else size * factor for factor in BUDGETS}
    for value in sorted(value for value in sizes if 0 < value <= most):
        yield value, replace(threat, **{name: value})
