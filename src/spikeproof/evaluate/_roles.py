"""Which steps of a suite answer which doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from spikeproof.attacks import Attack, Search
from spikeproof.evaluate._suite import Step, Suite

SINGLE = ("fgsm", "rfgsm")
SIZES = ("eps", "k", "budget")


@dataclass(frozen=True)
class Roles:
    """Steps of a suite by what they are evidence of, as ids.

    ``white`` are all attacks that follow gradients of the model, ``primary`` the first of those
    that meet survivors; ``members`` differ in their gradient only; ``repeats`` have more restarts,
    iterations or other losses. ``steps``, ``eps`` and ``draws`` are curves of one attack over its
    iterations, its budget, and the draws of noise per gradient.
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
        return (*named, *([self.primary] if self.primary else []))

    def only(self, run: Iterable[str]) -> Roles:
        """Returns the roles of these steps alone."""
        known = set(run)
        kept: dict[str, Any] = {"primary": self.primary if self.primary in known else ""}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, tuple):
                kept[entry.name] = tuple(id for id in value if id in known)
            elif isinstance(value, Mapping):
                kept[entry.name] = {at: id for at, id in value.items() if id in known}
        return Roles(**kept)


def roles_of(suite: Suite) -> Roles:
    """Returns the roles that the attacks of a suite have by what they are.

    Functions of the user's own have none. Curves over iterations and draws are not told from
    attacks that merely differ in them: name those yourself.
    """
    counted = [s for s in suite.steps if s.counts and isinstance(s.attack, Attack)]
    own = [step for step in counted if step.source is None]
    climbs = [step for step in own if not _search(step).blind and _kind(step) != "random"]
    after = [step for step in climbs if not step.everyone]
    repeats = [step for step in after if _attack(step).restarts > 1]
    curves = [s for s in suite.steps if not s.counts and isinstance(s.attack, Attack)]
    eps = {size: step.id for step in curves if (size := _size(step)) is not None}
    return Roles(
        random=_ids(own, "random"),
        single=_ids([step for step in own if step.everyone], *SINGLE),
        iterative=tuple(s.id for s in climbs if s.everyone and _kind(s) not in SINGLE),
        white=tuple(step.id for step in climbs if step not in repeats),
        members=tuple(step.id for step in after if step not in repeats),
        square=_ids(own, "square"),
        labels=_ids(own, "hop_skip_jump"),
        transfer=tuple(step.id for step in counted if step.source is not None),
        repeats=tuple(step.id for step in repeats),
        primary=after[0].id if after else "",
        eps=eps,
    )


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
