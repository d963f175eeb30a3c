"""Records of shards into the record of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import made, worst_of
from spikeproof.evaluate._finding import conclude, own_checks
from spikeproof.evaluate._intake import Manifest
from spikeproof.evaluate._reading import read_checks
from spikeproof.evaluate._record import Check, Record, StepRecord
from spikeproof.records import differences

ASKED = ("attack", "source", "everyone", "threat", "limit")  # what one step is


def merge(records: Sequence[Record]) -> Record:
    """Returns the record that one process would have written: same samples, same bits.

    What is told from bits is told anew from those of all.
    """
    first = records[0]
    count = first.shard[1]
    found = sorted(record.shard[0] for record in records)
    if found != [*range(1, count + 1)] or any(r.shard[1] != count for r in records):
        raise Refusal(
            f"shards {found} of {count} were given; each of 1..{count} is needed once; run the "
            "missing ones"
        )
    for record in records[1:]:
        check_alike(first, record, ("model", "data", "threat", "suite", "seed", "control"))
        _check_steps(first, record)
    places = [place for record in records for place in record.places]
    order = sorted(range(len(places)), key=places.__getitem__)
    steps = tuple(_merged(parts, order) for parts in zip(*(r.steps for r in records), strict=True))
    whole = replace(
        first,
        places=_ordered([r.places for r in records], order),
        shard=(1, 1),
        clean=_ordered([r.clean for r in records], order),
        steps=steps,
        artifacts={},  # files lie beside the parts
        times={"shards": [r.times for r in records]},
    )
    data = [check for r in records for check in r.checks if check.id == "C29"]
    measured = made(*(record.measured for record in records))
    return concluded(replace(whole, measured=measured), data)


def concluded(record: Record, data: Sequence[Check] = (), *, intact: bool = True) -> Record:
    """Returns a record with the checks that its bits and measurements give, and the finding."""
    adopted = record.model.get("adopted")
    own = own_checks(record.data, record.threat, record.steps, intact=intact, adopted=adopted)
    checks = worst_of(own, data, read_checks(record), record.measured)
    return replace(record, checks=checks, finding=conclude(checks, record.steps))


def check_alike(first: Record, second: Record, names: Sequence[str]) -> None:
    """Refuses two records that differ in one of these fields, naming what differs."""
    for name in names:
        old, new = getattr(first, name), getattr(second, name)
        if isinstance(old, Manifest):
            old, new = asdict(old), asdict(new)
        _check_equal(name, old, new)


def _check_equal(name: str, old: Any, new: Any) -> None:
    for key, a, b in differences(old, new, name):
        raise Refusal(
            f"{key} is {a} in one record and {b} in the other; only records of the same can be "
            "put together; evaluate both alike"
        )


def _check_steps(first: Record, second: Record) -> None:
    """Refuses two records whose steps are other attacks, naming what differs."""
    one, other = ([step.id for step in record.steps] for record in (first, second))
    if set(one) == set(other):
        _check_equal("steps", one, other)
    asked = ({s.id: {n: getattr(s, n) for n in ASKED} for s in r.steps} for r in (first, second))
    _check_equal("steps", *asked)


def _merged(parts: Sequence[StepRecord], order: Sequence[int]) -> StepRecord:
    first = parts[0]
    values: dict[str, Any] = {
        f.name: _ordered([getattr(part, f.name) for part in parts], order)
        for f in fields(StepRecord)
        if isinstance(getattr(first, f.name), tuple)
    }
    values["message"] = next((part.message for part in parts if part.message), "")
    values["skipped"] = next((part.skipped for part in parts if part.skipped), "")
    return replace(first, **values)


def _ordered(parts: Sequence[tuple[Any, ...]], order: Sequence[int]) -> tuple[Any, ...]:
    joined = [value for part in parts for value in part]
    return tuple(joined[place] for place in order)
