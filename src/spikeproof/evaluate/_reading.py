"""What the bits of a record say: the same of one run, and of shards that were put together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

import torch

from spikeproof.evaluate._checks import check_steps, converged, skip, worst_of
from spikeproof.evaluate._record import Check, Record, StepRecord
from spikeproof.evaluate._roles import Roles

CURVES = ("steps", "eps", "draws")
PARTS = (4, 2, 1)  # of the primary attack's queries: N/2, N and 2N where 2N were run


@dataclass(frozen=True)
class Reading:
    """What one must know beside the bits to doubt them."""

    roles: Roles
    classes: int
    stochastic: bool = False
    unbounded: float = math.inf

    @property
    def plain(self) -> dict[str, Any]:
        """As a record keeps it: JSON has neither infinity nor keys that are numbers."""
        roles = {
            name: sorted(map(list, value.items())) if isinstance(value, Mapping) else value
            for name, value in asdict(self.roles).items()
        }
        known = {name: list(v) if isinstance(v, tuple) else v for name, v in roles.items()}
        reach = self.unbounded if math.isfinite(self.unbounded) else None
        return asdict(self) | {"roles": known, "unbounded": reach}


def read_checks(record: Record) -> tuple[Check, ...]:
    """Returns C10 to C20 of a record that says how it is read, and nothing of another one."""
    if not record.reading:
        return ()
    values = dict(record.reading)
    reach = values["unbounded"]
    return check_record(
        record,
        _roles(values["roles"]),
        classes=values["classes"],
        stochastic=values["stochastic"],
        unbounded=math.inf if reach is None else reach,
    )


def check_record(
    record: Record,
    roles: Roles,
    *,
    classes: int,
    stochastic: bool = False,
    unbounded: float = math.inf,
) -> tuple[Check, ...]:
    """Returns what ``check_steps`` makes of a record; steps that were not run have no role."""
    clean = torch.tensor(record.clean)
    standing, met = {}, {}
    run = {step.id: step for step in record.steps if not step.skipped}
    for step in run.values():
        bits, attacked = clean & ~torch.tensor(step.success), torch.tensor(step.attacked)
        standing[step.id] = bits if step.counts else bits[attacked]
        met[step.id] = attacked
    roles = roles.only(standing)
    found = check_steps(
        standing,
        roles,
        classes=classes,
        met=met,
        stochastic=stochastic,
        unbounded=unbounded,
    )
    if not roles.longest:
        return found
    told = [check for check in found if check.id != "C11" or check.verdict != "na"]
    return worst_of(told, [_one_run(run[roles.longest])])


def _one_run(step: StepRecord) -> Check:
    """Returns C11 from the queries at which the samples of one run fell."""
    rows = zip(step.attacked, step.success, step.at, step.forwards, strict=True)
    met = [row[1:] for row in rows if row[0]]
    if not met:
        return skip("C11", "nobody stood when the primary attack began")
    samples = len(step.attacked) if step.counts else len(met)
    spent = [forwards for fell, _, forwards in met if not fell]
    whole = int(median(spent)) if spent else 2 * max(at for _, at, _ in met)
    if whole < PARTS[0]:
        return skip("C11", f"the primary attack asked {whole} times only")
    before = len(met) / samples
    curve = {}
    for part in PARTS:
        most = whole // part if part > 1 else math.inf
        fallen = sum(fell and at <= most for fell, at, _ in met)
        curve[whole // part] = before - fallen / samples
    return converged(curve, samples)


def _roles(values: Mapping[str, Any]) -> Roles:
    made: dict[str, Any] = {}
    for entry in fields(Roles):
        value = values[entry.name]
        if isinstance(value, list):
            value = tuple(value)
            if entry.name in CURVES:
                value = dict(value)
        made[entry.name] = value
    return Roles(**made)
