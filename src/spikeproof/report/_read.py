"""What a page is made from: the records of a run, read as JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spikeproof.errors import Refusal
from spikeproof.records import SCHEMA, read_json
from spikeproof.statistics import wilson

RECORD = "record.json"
ENERGY = "energy.json"  # what `spikeproof energy RUN --json` prints, kept in the run folder
PACKED = "packed.json"  # the same of `spikeproof run FILE --json`
KINDS = ("training", "evaluation", "diagnosis", "certificate")
DEPTH = 3  # folders below a run that are searched for records
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, binascii.Error)

Bits = tuple[bool, ...]


@dataclass(frozen=True)
class Step:
    """One attack of an evaluation; bits have one entry per sample of the record."""

    id: str
    attack: Any
    everyone: bool
    threat: Mapping[str, Any] | None
    skipped: str
    message: str
    source: Any
    limit: int
    attacked: Bits
    success: Bits
    crashed: Bits
    at: tuple[int, ...]  # the query that broke a sample, 0 where none did
    most: int  # forward passes on the sample that got most
    forwards: int
    backwards: int
    summary: Mapping[str, Any]

    @property
    def counts(self) -> bool:
        """Whether what it broke is broken for the suite."""
        return self.threat is None

    @property
    def broke(self) -> int:
        """How many samples it broke."""
        return sum(self.success)

    @property
    def met(self) -> int:
        """How many samples it attacked."""
        return sum(self.attacked)


@dataclass(frozen=True)
class Evaluation:
    """The record of an evaluation, with what a page asks of it."""

    name: str
    path: Path
    values: Mapping[str, Any]
    places: tuple[int, ...]
    clean: Bits
    steps: tuple[Step, ...]

    @cached_property
    def robust(self) -> Bits:
        """Which samples are right and stand after the whole suite."""
        rows = [step.success for step in self.steps if step.counts]
        fell = [any(column) for column in zip(*rows, strict=True)] or [False] * len(self.clean)
        return tuple(right and not hit for right, hit in zip(self.clean, fell, strict=True))

    @property
    def samples(self) -> int:
        """How many samples were evaluated."""
        return len(self.clean)

    @property
    def accuracy(self) -> float:
        """The share that is right when nobody touched it."""
        return sum(self.clean) / self.samples

    @property
    def worst(self) -> float:
        """The share that stands after the whole suite."""
        return sum(self.robust) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the worst case."""
        return wilson(sum(self.robust), self.samples)

    @property
    def status(self) -> str:
        """What the checks make of the number."""
        return str(self.values["finding"]["status"])

    @property
    def weights(self) -> str:
        """The SHA-256 of the network."""
        return str((self.values.get("model") or {}).get("weights_sha256", ""))

    @property
    def threat(self) -> Mapping[str, Any]:
        """What may change, and by how much."""
        return self.values["threat"]

    @property
    def roles(self) -> Mapping[str, Any]:
        """Which steps are evidence of what, where the record says so."""
        return (self.values.get("reading") or {}).get("roles") or {}

    def step(self, id: str) -> Step | None:
        """Returns the step of this name, if it was run."""
        return next((step for step in self.steps if step.id == id and not step.skipped), None)

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Certificate:
    """The record of a certification; bits have one entry per sample of its data."""

    path: Path
    values: Mapping[str, Any]
    clean: Bits
    certified: Bits

    @property
    def share(self) -> float:
        """The share that is right and proved to stay so."""
        return sum(self.certified) / len(self.certified)

    @property
    def method(self) -> str:
        """How it was proved."""
        return str(self.values["method"]["kind"])

    @property
    def votes(self) -> bool:
        """Whether a vote over noise is certified, which is another classifier than the network."""
        return bool(self.values["radius"])

    @property
    def threat(self) -> Mapping[str, Any]:
        """What may change, and by how much."""
        return self.values["threat"]

    @property
    def weights(self) -> str:
        """The SHA-256 of the network."""
        return str(self.values["model"]["weights_sha256"])

    @property
    def samples(self) -> tuple[str, str]:
        """The SHA-256 of inputs and labels."""
        data = self.values["data"]
        return str(data["tensor_sha256"]), str(data["label_sha256"])

    @property
    def checks(self) -> Sequence[Mapping[str, Any]]:
        """What was compared with an evaluation when it was made."""
        return self.values["checks"]


@dataclass(frozen=True)
class Run:
    """A network: how it was trained, how it was attacked, what was measured of it."""

    name: str
    path: Path
    training: Mapping[str, Any] | None = None
    evaluations: tuple[Evaluation, ...] = ()
    diagnoses: tuple[Mapping[str, Any], ...] = ()
    certificates: tuple[Certificate, ...] = ()
    energy: Mapping[str, Any] | None = None
    packed: Mapping[str, Any] | None = None


def read_runs(paths: Sequence[Path]) -> tuple[Run, ...]:
    """Returns what records there are in these folders and files; a path without any is refused."""
    if not paths:
        raise Refusal("no run was named; a report is made of records; name a run folder")
    names = _short_names([path.resolve() for path in paths])
    runs = [_read_run(name, path) for name, path in zip(names, paths, strict=True)]
    return tuple(_named(run, many=len(runs) > 1) for run in runs)


def records_in(folder: Path) -> Iterator[Path]:
    """Yields the records in a folder and below, those of shards and hidden folders left out."""
    for level in range(DEPTH + 1):
        for path in sorted(folder.glob("/".join(["*"] * level + [RECORD]))):
            inner = path.relative_to(folder).parts[:-1]
            if not any(part.startswith((".", "shard-")) or part == "blocks" for part in inner):
                yield path


def read_evaluation(path: Path, values: Mapping[str, Any], name: str) -> Evaluation:
    """Returns an evaluation of its JSON; a damaged one is refused."""
    _check_schema(path, values)
    try:
        places = tuple(_numbers(values["places"], "<u4"))
        clean = _bits(values["clean"], len(places))
        told = {s["id"]: s for s in (values.get("summary") or {}).get("steps", ())}
        steps = tuple(
            _read_step(step, len(places), told.get(step["id"], {})) for step in values["steps"]
        )
        found = Evaluation(name, path, values, places, clean, steps)
        _ = found.status, dict(found.threat), found.weights, found.interval, dict(found.roles)
        return found
    except (*DAMAGE, Refusal) as error:
        raise Refusal(
            f"{path} is damaged ({type(error).__name__}: {error}); a record is read as it was "
            "written; take an unchanged copy"
        ) from None


def read_certificate(path: Path, values: Mapping[str, Any]) -> Certificate:
    """Returns a certificate of its JSON; a damaged one is refused."""
    _check_schema(path, values)
    try:
        count = len(plain_row(values["data"]["labels"]))
        bits = [tuple(map(bool, plain_row(values[name]))) for name in ("clean", "certified")]
        if not count or {len(row) for row in bits} != {count}:
            raise ValueError(f"{[len(row) for row in bits]} bits for {count} samples")
        made = Certificate(path, values, *bits)
        _ = made.method, made.votes, dict(made.threat), made.weights, made.samples
        _ = [dict(check) for check in made.checks]
        return made
    except DAMAGE as error:
        raise Refusal(
            f"{path} is damaged ({type(error).__name__}: {error}); a record is read as it was "
            "written; take an unchanged copy"
        ) from None


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise Refusal(f"{path} does not exist; a report is made of records; check the path")
    files = list(records_in(path))
    if not files:
        raise Refusal(
            f"{path} holds no {RECORD}; a report is made of the records of training and "
            "evaluation; evaluate the run first, or name another folder"
        )
    return files


def _read_run(name: str, path: Path) -> Run:
    files = _files_of(path)
    energy, packed = (
        read_json(path / beside) if (path / beside).is_file() else None
        for beside in (ENERGY, PACKED)
    )
    run = Run(name, path, energy=energy, packed=packed)
    inner: list[Path] = []  # folders of diagnoses, whose evaluations are their curves
    for file in files:
        if any(folder in file.parents and folder != file.parent for folder in inner):
            continue
        values = read_json(file)
        kind = values.get("kind")
        if kind not in KINDS and file == path:
            raise Refusal(
                f"{file} is of kind {kind!r}; a report is made of {', '.join(KINDS)}; name one"
            )
        if kind == "training":
            run = replace(run, training=run.training or values)
        elif kind == "evaluation":
            found = read_evaluation(file, values, name)
            run = replace(run, evaluations=(*run.evaluations, found))
        elif kind == "diagnosis":
            inner.append(file.parent)
            run = replace(run, diagnoses=(*run.diagnoses, values))
        elif kind == "certificate":
            run = replace(run, certificates=(*run.certificates, read_certificate(file, values)))
    return run


def _named(run: Run, *, many: bool) -> Run:
    """Gives every evaluation of a run a name of its own."""
    found = run.evaluations
    if len(found) < 2:
        return run
    tails = _short_names([evaluation.path.parent.resolve() for evaluation in found])
    names = [f"{run.name} · {tail}" if many else tail for tail in tails]
    pairs = zip(found, names, strict=True)
    return replace(run, evaluations=tuple(replace(e, name=name) for e, name in pairs))


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the ends of paths, as long as it takes to tell them apart."""
    longest = max(len(path.parts) for path in paths)
    for length in range(1, longest + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise Refusal(f"{paths[0]} was named twice; a run is compared with others; name it once")


def _read_step(values: Mapping[str, Any], count: int, told: Mapping[str, Any]) -> Step:
    attacked = _bits(values["attacked"], count)
    met = sum(attacked)
    at = iter(_counted(values["at"], "<u4", met))
    forwards = _counted(values["forwards"], "<u4", met)
    return Step(
        id=str(values["id"]),
        attack=values["attack"],
        everyone=bool(values["everyone"]),
        threat=values["threat"],
        skipped=str(values["skipped"]),
        message=str(values["message"]),
        source=values.get("source"),
        limit=int(values.get("limit", 0)),
        attacked=attacked,
        success=_bits(values["success"], count),
        crashed=_bits(values["crashed"], count),
        at=tuple(next(at) if hit else 0 for hit in attacked),
        most=max(forwards, default=0),
        forwards=sum(forwards),
        backwards=sum(_counted(values["backwards"], "<u4", met)),
        summary=dict(told),
    )


def _counted(text: str, kind: str, count: int) -> list[int]:
    found = _numbers(text, kind)
    if len(found) != count:
        raise ValueError(f"{len(found)} values for {count} samples")
    return found


def _bits(text: str, count: int) -> Bits:
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(packed)} bytes of bits for {count} samples")
    return tuple(np.unpackbits(packed, count=count).astype(bool).tolist())


def _numbers(text: str, kind: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text, validate=True), kind).tolist()


def alike(first: Evaluation, second: Evaluation) -> str:
    """Returns what keeps two evaluations from being compared sample by sample, or nothing."""
    for name in ("threat", "suite", "seed", "shard"):
        if first.values.get(name) != second.values.get(name):
            return f"other {name}"
    for name in ("indices", "label_sha256", "tensor_sha256"):
        if first.values["data"].get(name) != second.values["data"].get(name):
            return "other samples"
    return "" if _protocol(first) == _protocol(second) else "other attacks"


def _protocol(found: Evaluation) -> str:
    rows = [
        (s.id, s.attack, s.everyone, s.threat, s.limit, bool(s.skipped), any(s.crashed), s.source)
        for s in found.steps
    ]
    return json.dumps(rows, sort_keys=True)


def plain_row(value: Any) -> list[int]:
    """Returns a row of bits or whole numbers, packed or written out."""
    if not isinstance(value, Mapping):
        return [int(item) for item in value]
    if "u4" in value:
        return _numbers(value["u4"], "<u4")
    return list(map(int, _bits(value["bits"], int(value["count"]))))


def _check_schema(path: Path, values: Mapping[str, Any]) -> None:
    if values.get("schema") != SCHEMA:
        raise Refusal(
            f"{path} has schema {values.get('schema')!r}; this version reads schema {SCHEMA}; read "
            "it with the version that wrote it, or make it again"
        )
