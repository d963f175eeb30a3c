"""Which steps of a suite answer which doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from spikeproof.attacks import Attack, Search, Threat
from spikeproof.evaluate._suite import Step, Suite

SINGLE = ("fgsm", "rfgsm")
SIZES = ("eps", "k", "budget")


@dataclass(frozen=True)
class Roles:
    """Steps of a suite by what they are evidence of, as ids.

    ``white`` are all attacks that follow gradients of the model, ``primary`` the first of those
    that meet survivors; ``members`` differ in their gradient only; ``repeats`` have more restarts,
    iterations or other losses. ``longest`` is the primary attack with most iterations. ``steps``,
    ``eps`` and ``draws`` are curves of one attack over its iterations, its budget, and the draws
    of noise per gradient.
    """

    random: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    iterative: tuple[str, ...] = ()
    white: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    square: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    transfer: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()
    primary: str = ""
    longest: str = ""
    steps: Mapping[int, str] = field(default_factory=dict)
    eps: Mapping[float, str] = field(default_factory=dict)
    draws: Mapping[int, str] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """All steps that are named."""
        groups: list[Iterable[str]] = [self.random, self.single, self.iterative, self.white]
        groups += [self.members, self.square, self.labels, self.transfer, self.repeats]
        groups += [curve.values() for curve in (self.steps, self.eps, self.draws)]
        named = [id for group in groups for id in group]
        return (*named, *(id for id in (self.primary, self.longest) if id))

    def only(self, run: Iterable[str]) -> Roles:
        """Returns the roles of these steps alone."""
        known = set(run)
        kept: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, str):
                kept[entry.name] = value if value in known else ""
            elif isinstance(value, tuple):
                kept[entry.name] = tuple(id for id in value if id in known)
            elif isinstance(value, Mapping):
                kept[entry.name] = {at: id for at, id in value.items() if id in known}
        return Roles(**kept)


def roles_of(suite: Suite, threat: Threat | None = None) -> Roles:
    """Returns the roles that the attacks of a suite have by what they are.

    Functions of the user's own have none. A step whose own threat is that of the suite measures a
    curve over what it changes of the primary attack, its iterations or its draws of noise.
    """
    counted = [s for s in suite.steps if s.counts and isinstance(s.attack, Attack)]
    own = [step for step in counted if step.source is None]
    climbs = [step for step in own if climbing(step)]
    after = [step for step in climbs if not step.everyone]
    repeats = [step for step in after if _attack(step).restarts > 1]
    curves = [s for s in suite.steps if not s.counts and isinstance(s.attack, Attack)]
    same = [s for s in curves if threat is not None and s.threat == threat and s.source is None]
    primary = after[0] if after else None
    budgets = [s for s in curves if s not in same or (primary and s.attack == primary.attack)]
    eps = {size: step.id for step in budgets if (size := _size(step)) is not None}
    long = [s for s in (*after, *same) if primary and _alike(s, primary, "steps")]
    longest = [step for step in long if hasattr(_search(step), "steps")]
    return Roles(
        random=_ids(own, "random"),
        single=_ids([step for step in own if step.everyone], *SINGLE),
        iterative=tuple(s.id for s in climbs if s.everyone and _kind(s) not in SINGLE),
        white=tuple(step.id for step in climbs if step not in repeats),
        members=tuple(step.id for step in after if step not in repeats),
        square=_ids(own, "square", "coordinate"),
        labels=_ids(own, "hop_skip_jump"),
        transfer=tuple(step.id for step in counted if step.source is not None),
        repeats=tuple(step.id for step in repeats),
        primary=primary.id if primary else "",
        longest=max(longest, key=_iterations).id if longest else "",
        steps=_curve(same, primary, "steps"),
        eps=eps,
        draws=_curve(same, primary, "draws") or _curve(after, primary, "draws"),
    )


def climbing(step: Step) -> bool:
    """Returns whether a step follows gradients of the model itself."""
    attack = step.attack
    return isinstance(attack, Attack) and not attack.search.blind and step.source is None


def _curve(steps: Iterable[Step], primary: Step | None, knob: str) -> dict[int, str]:
    """Returns the steps of equal limit that differ from the primary one in this knob alone."""
    found: dict[int, dict[int, str]] = {}
    for step in steps:
        if primary and _alike(step, primary, knob):
            number = _iterations(step) if knob == "steps" else _attack(step).draws
            found.setdefault(step.limit, {}).setdefault(number, step.id)
    longest = max(found.values(), key=len, default={})
    return longest if len(longest) > 1 else {}


def _alike(step: Step, primary: Step, knob: str) -> bool:
    """Returns whether two steps make the same attack, but for this knob."""
    one, other = _attack(step), _attack(primary)
    if knob == "draws":
        return replace(one, draws=other.draws) == other
    if type(one.search) is type(other.search) and hasattr(one.search, "steps"):
        knobs: Any = {"steps": _iterations(primary)}
        return replace(one, search=replace(one.search, **knobs)) == other  # type: ignore[type-var]
    return one == other


def _iterations(step: Step) -> int:
    return int(getattr(_search(step), "steps", 1))


def _attack(step: Step) -> Attack:
    if not isinstance(step.attack, Attack):
        raise TypeError(f"step {step.id} is a function of the user's own")
    return step.attack


def _search(step: Step) -> Search:
    return _attack(step).search


def _kind(step: Step) -> str:
    return _search(step).kind


def _ids(steps: list[Step], *kinds: str) -> tuple[str, ...]:
    return tuple(step.id for step in steps if _kind(step) in kinds)


def _size(step: Step) -> float | None:
    sizes = (getattr(step.threat, name, None) for name in SIZES)
    return next((float(size) for size in sizes if size is not None), None)
