"""The record of a diagnosis: what was measured of a network, sample by sample."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from spikeproof.errors import Refusal
from spikeproof.evaluate._domains import Domains
from spikeproof.evaluate._intake import Manifest
from spikeproof.evaluate._landscape import Directional, Plane, agreement
from spikeproof.evaluate._packing import packed, unpacked
from spikeproof.evaluate._rasters import Raster
from spikeproof.evaluate._record import Check, Finding
from spikeproof.evaluate._sweeps import Point
from spikeproof.evaluate._trail import RELATIVE, Operation, Trail
from spikeproof.evaluate._vulnerability import Vulnerability
from spikeproof.records import read_json, write_json

SCHEMA = 1
KIND = "diagnosis"

Inputs = Literal["clean", "attacked"]


@dataclass(frozen=True)
class Firing:
    """Spikes per neuron and step of one layer, for every sample."""

    name: str
    T: int
    neurons: int
    rate: tuple[float, ...]


@dataclass(frozen=True)
class Seen:
    """What the network did with all samples, clean or attacked: answers, spikes and trails."""

    inputs: Inputs
    correct: tuple[bool, ...]
    firing: tuple[Firing, ...]
    trails: Mapping[str, Trail]  # by the name of the rule


@dataclass(frozen=True)
class Diagnosis:
    """All that was measured; rows of samples follow ``data.indices``.

    ``notes`` say what could not be measured, and why. ``planes``, ``directions`` and
    ``rasters`` are of the first samples; their ``sample`` is a place in ``data.indices``.
    """

    model: Mapping[str, Any]
    data: Manifest
    threat: Mapping[str, Any]
    attack: Mapping[str, Any]
    rules: tuple[str, ...]
    seed: int
    seen: tuple[Seen, ...]
    vulnerability: tuple[Vulnerability, ...]
    curves: tuple[Point, ...]
    checks: tuple[Check, ...]
    finding: Finding | None
    directions: tuple[Directional, ...]
    planes: tuple[Plane, ...]
    domains: Domains | None
    notes: tuple[str, ...]
    environment: Mapping[str, Any]
    times: Mapping[str, Any]
    rasters: tuple[Raster, ...] = ()  # absent in records of versions without them

    def trail(self, inputs: Inputs = "clean", rule: str = "") -> Trail:
        """Returns the trail of these inputs by a rule; by the first one where none is named."""
        seen = next((seen for seen in self.seen if seen.inputs == inputs), None)
        names = [*seen.trails] if seen else []
        if seen is None or (rule or names[:1]) not in (*names, names[:1]) or not names:
            raise Refusal(
                f"there is no trail of {inputs} inputs by {rule or 'any rule'}; this diagnosis has "
                f"{', '.join(names) or 'none'}; name one of these or measure it"
            )
        return seen.trails[rule or names[0]]


def write_diagnosis(path: Path, diagnosis: Diagnosis) -> None:
    """Writes a diagnosis as JSON, with a summary in numbers that needs no unpacking."""
    values = packed(asdict(diagnosis))
    write_json(path, values | {"schema": SCHEMA, "kind": KIND, "summary": overview(diagnosis)})


def read_diagnosis(path: Path) -> Diagnosis:
    """Reads a diagnosis back; another kind or schema is refused by its name."""
    values = read_json(path)
    kind, schema = values.pop("kind", None), values.pop("schema", None)
    if (kind, schema) != (KIND, SCHEMA):
        raise Refusal(
            f"{path} is of kind {kind!r} and schema {schema!r}; a diagnosis of schema {SCHEMA} is "
            "needed; name one, or diagnose again"
        )
    values.pop("summary", None)
    try:
        return unpacked(Diagnosis, values)
    except (ValueError, TypeError, binascii.Error) as error:
        said = (str(error).splitlines() or [""])[0]
        raise Refusal(
            f"{path} is damaged ({type(error).__name__}: {said}); a diagnosis is read as it was "
            "written; take an unchanged copy"
        ) from None


def overview(diagnosis: Diagnosis) -> dict[str, Any]:
    """Returns means over samples, for those who do not unpack rows."""
    inside = diagnosis.domains
    return {
        "samples": len(diagnosis.data.indices),
        "seen": {seen.inputs: _seen(seen) for seen in diagnosis.seen},
        "vulnerability": [_vulnerability(v) for v in diagnosis.vulnerability],
        "curves": [
            {"over": p.over, "value": p.value, "name": p.name, "standing": _mean(p.standing)}
            for p in diagnosis.curves
            if not p.skipped
        ],
        "slopes": _agreement(diagnosis.directions),
        "domains": None
        if inside is None
        else {
            "eps": inside.eps,
            "clean": _mean(inside.clean),
            "sensor": _left(inside.clean, inside.sensor),
            "spikes": _left(inside.clean, inside.spikes),
            "legal": _left(inside.clean, inside.legal),
            "flipped": _mean(inside.flipped),
        },
    }


def _seen(seen: Seen) -> dict[str, Any]:
    return {
        "accuracy": _mean(seen.correct),
        "rate": {layer.name: _mean(layer.rate) for layer in seen.firing},
        "trails": {
            rule: [_operation(op) for op in trail.operations] for rule, trail in seen.trails.items()
        },
    }


def _operation(op: Operation) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": op.name,
        "kind": op.kind,
        "zeros": _mean(op.zeros),
        "near": {f"{share:g}": _mean(row) for share, row in zip(RELATIVE, op.near, strict=True)},
        "l1": _mean(op.l1),
        "l2": _mean(op.l2),
    }
    return values | ({"weight_density": _mean(op.weight_density)} if op.weight_l0 else {})


def _vulnerability(v: Vulnerability) -> dict[str, Any]:
    return {
        "forward": v.forward,
        "rule": v.rule,
        "eps": v.eps,
        "ratio": _median(v.ratio),
        "linear": _median(v.linear),
        "upper": _median(v.upper),
        "above": _mean(v.above()),
        "below": _mean(v.below()),
        "undefined": _mean([not math.isfinite(ratio) for ratio in v.ratio]),
    }


def _agreement(found: Sequence[Directional]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, float], list[float]] = {}
    for one in found:
        share = agreement(one)
        rows.setdefault((one.rule, one.step), []).extend([] if share is None else [share])
    return [{"rule": r, "step": step, "agreement": _mean(v)} for (r, step), v in rows.items()]


def _left(clean: Sequence[bool], fallen: Sequence[bool]) -> float | None:
    return _mean([right and not fell for right, fell in zip(clean, fallen, strict=True)])


def _mean(values: Sequence[float]) -> float | None:
    mean = fmean(values) if values else math.nan
    return mean if math.isfinite(mean) else None


def _median(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    middle = median(known) if known else math.nan
    return middle if math.isfinite(middle) else None
