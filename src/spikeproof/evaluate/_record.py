"""The record of an evaluation: per-sample truth, and what follows from it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from spikeproof.errors import Refusal
from spikeproof.evaluate._intake import Manifest
from spikeproof.records import read_json, write_json
from spikeproof.statistics import only_by, robust_accuracy, wilson

SCHEMA = 1
KIND = "evaluation"
BITS = ("attacked", "success", "inadmissible", "unconfirmed", "infeasible", "crashed")
NUMBERS = {"at": "<u4", "forwards": "<u4", "backwards": "<u4", "size": "<f4"}

Grade = Literal["pass", "flag", "fail", "na"]


@dataclass(frozen=True)
class Check:
    """One doubt, measured: ``value`` against ``threshold``, in words in ``detail``."""

    id: str
    name: str
    value: float | None
    threshold: float | None
    verdict: Grade
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """What the checks make of the numbers, and why; never that a model is robust."""

    status: Literal["unreliable", "flagged", "no evidence of masking"]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepRecord:
    """What a step did; every tuple has one entry per sample of the record."""

    id: str
    attack: Any
    everyone: bool
    threat: Mapping[str, Any] | None  # of a step that measures a curve
    skipped: str  # why the step was not run, or nothing
    message: str  # of a crash
    attacked: tuple[bool, ...]
    success: tuple[bool, ...]
    inadmissible: tuple[bool, ...]
    unconfirmed: tuple[bool, ...]
    infeasible: tuple[bool, ...]
    crashed: tuple[bool, ...]
    at: tuple[int, ...]
    forwards: tuple[int, ...]
    backwards: tuple[int, ...]
    size: tuple[float, ...]
    source: Any = None  # the network whose gradient was followed, where it is another
    limit: int = 0  # it met the first samples only, as many as this

    @property
    def counts(self) -> bool:
        """Whether what it broke is broken for the suite."""
        return self.threat is None


@dataclass(frozen=True)
class Record:
    """An evaluation. ``clean`` and all steps follow the order of ``places`` in the manifest."""

    model: Mapping[str, Any]
    data: Manifest
    threat: Mapping[str, Any]
    suite: str
    seed: int
    places: tuple[int, ...]  # all of the manifest, or those of a shard
    shard: tuple[int, int]
    clean: tuple[bool, ...]
    steps: tuple[StepRecord, ...]
    checks: tuple[Check, ...]
    finding: Finding
    environment: Mapping[str, Any]
    times: Mapping[str, Any]
    measured: tuple[Check, ...] = ()  # those of the checks that the bits do not tell
    reading: Mapping[str, Any] = field(default_factory=dict)  # what the bits tell, and how
    artifacts: Mapping[str, Any] = field(default_factory=dict)  # files beside the record
    control: str = ""  # SHA-256 of the weights of the network without a defence, if there was one

    @property
    def broken(self) -> tuple[tuple[bool, ...], ...]:
        """What each step that counts broke, in their order."""
        return tuple(step.success for step in self.steps if step.counts)

    @property
    def robust(self) -> tuple[bool, ...]:
        """Which samples are right and stand after the whole suite."""
        hit = [any(column) for column in zip(*self.broken, strict=True)]
        return tuple(right and not fell for right, fell in zip(self.clean, hit, strict=True))

    @property
    def robust_accuracy(self) -> float:
        """The worst case over all steps that count."""
        return sum(self.robust) / len(self.clean)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the worst case."""
        return wilson(sum(self.robust), len(self.robust))

    @property
    def clean_accuracy(self) -> float:
        """The share of samples that are right when nobody touched them."""
        return sum(self.clean) / len(self.clean)


def summary(record: Record) -> dict[str, Any]:
    """Returns the numbers that readers ask first, for those who do not unpack bits."""
    steps: list[dict[str, Any]] = []
    broken: list[tuple[bool, ...]] = []
    alone = iter(only_by(record.broken))
    right = max(1, sum(record.clean))
    for step in record.steps:
        seen = max(1, sum(step.attacked))
        values: dict[str, Any] = {
            "id": step.id,
            "attacked": sum(step.attacked),
            "broke": sum(step.success),
            "forwards_per_sample": sum(step.forwards) / seen,
            "backwards_per_sample": sum(step.backwards) / seen,
        }
        if any(step.success):
            values["median_query"] = median(q for q in step.at if q)
            values["median_size"] = median(
                s for s, hit in zip(step.size, step.success, strict=True) if hit
            )
        if step.everyone and not step.skipped:
            values["robust_accuracy"] = robust_accuracy(record.clean, step.success)
            values["success_over_correct"] = sum(step.success) / right
        if step.counts:
            broken.append(step.success)
            values["only_by"] = next(alone)
            values["cumulative"] = robust_accuracy(record.clean, *broken)
        steps.append(values)
    return {
        "samples": len(record.clean),
        "clean_accuracy": record.clean_accuracy,
        "robust_accuracy": record.robust_accuracy,
        "interval": list(record.interval),
        "forwards": sum(sum(step.forwards) for step in record.steps),
        "backwards": sum(sum(step.backwards) for step in record.steps),
        "steps": steps,
    }


def write_record(path: Path, record: Record) -> None:
    """Writes a record as JSON; bits and numbers per sample are packed in base64."""
    data = asdict(record.data)
    data["indices"] = _pack(record.data.indices, "<u4")
    data["labels"] = _pack(record.data.labels, "<u4")
    values = asdict(record) | {
        "schema": SCHEMA,
        "kind": KIND,
        "data": data,
        "places": _pack(record.places, "<u4"),
        "clean": _pack_bits(record.clean),
        "steps": [_pack_step(step) for step in record.steps],
        "summary": summary(record),
    }
    write_json(path, values)


def read_record(path: Path) -> Record:
    """Reads a record back; another schema is refused by its name."""
    values = read_json(path)
    schema, kind = values.get("schema"), values.get("kind")
    if kind != KIND:
        raise Refusal(f"{path} is of kind {kind!r}; a record of an evaluation is needed; name one")
    if schema != SCHEMA:
        raise Refusal(
            f"{path} has schema {schema!r}; this version reads schema {SCHEMA}; read it with the "
            "version that wrote it, or evaluate again"
        )
    try:
        return _unpack(values)
    except (KeyError, TypeError, ValueError, binascii.Error, AttributeError) as error:
        raise Refusal(
            f"{path} is damaged ({type(error).__name__}: {error}); a record is read as it was "
            "written; take an unchanged copy"
        ) from None


def _unpack(values: dict[str, Any]) -> Record:
    places = _numbers(values["places"], "<u4")
    data = values["data"] | {
        "indices": _numbers(values["data"]["indices"], "<u4"),
        "labels": _numbers(values["data"]["labels"], "<u4"),
        "shape": tuple(values["data"]["shape"]),
    }
    finding = values["finding"]
    return Record(
        model=values["model"],
        data=Manifest(**data),
        threat=values["threat"],
        suite=values["suite"],
        seed=values["seed"],
        places=places,
        shard=tuple(values["shard"]),
        clean=_bits(values["clean"], len(places)),
        steps=tuple(_unpack_step(step, len(places)) for step in values["steps"]),
        checks=tuple(Check(**check) for check in values["checks"]),
        measured=tuple(Check(**check) for check in values.get("measured", ())),
        reading=values.get("reading", {}),
        artifacts=values.get("artifacts", {}),
        control=values.get("control", ""),
        finding=Finding(finding["status"], tuple(finding["reasons"])),
        environment=values["environment"],
        times=values["times"],
    )


def _pack_step(step: StepRecord) -> dict[str, Any]:
    values = {entry.name: getattr(step, entry.name) for entry in fields(step)}
    for name in BITS:
        values[name] = _pack_bits(values[name])
    for name, kind in NUMBERS.items():  # of those that were attacked; the others have none
        kept = [v for v, hit in zip(values[name], step.attacked, strict=True) if hit]
        values[name] = _pack(kept, kind)
    return values


def _unpack_step(values: dict[str, Any], count: int) -> StepRecord:
    values = {"infeasible": _pack_bits((False,) * count)} | values  # of a record before C28
    for name in BITS:
        values[name] = _bits(values[name], count)
    for name, kind in NUMBERS.items():
        kept = _numbers(values[name], kind)
        if len(kept) != sum(values["attacked"]):
            raise ValueError(f"{len(kept)} values of {name} for {sum(values['attacked'])} samples")
        numbers, zero = iter(kept), 0.0 if name == "size" else 0
        values[name] = tuple(next(numbers) if hit else zero for hit in values["attacked"])
    return StepRecord(**values)


def _pack_bits(bits: Sequence[bool]) -> str:
    return base64.b64encode(np.packbits(np.asarray(bits, bool)).tobytes()).decode()


def _bits(text: str, count: int) -> tuple[bool, ...]:
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(packed)} bytes of bits for {count} samples")
    return tuple(np.unpackbits(packed, count=count).astype(bool).tolist())


def _pack(numbers: Sequence[float], kind: str) -> str:
    return base64.b64encode(np.asarray(numbers, kind).tobytes()).decode()


def _numbers(text: str, kind: str) -> tuple[Any, ...]:
    return tuple(np.frombuffer(base64.b64decode(text, validate=True), kind).tolist())
