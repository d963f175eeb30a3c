"""The entry to certificates: a model, samples, a threat and a method to a record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeproof.attacks import (
    JUDGED,
    L1,
    L2,
    Threat,
    correct,
    fingerprint,
    identity,
    region,
    under_attack,
)
from spikeproof.data import Dataset
from spikeproof.errors import Refusal, within
from spikeproof.evaluate._blocks import claimed
from spikeproof.evaluate._certificate import (
    Certificate,
    beyond,
    read_certificate,
    sandwich,
    write_certificate,
)
from spikeproof.evaluate._evaluate import Conditions, _environment, _model, _times
from spikeproof.evaluate._exact import Exact, exact_margins
from spikeproof.evaluate._intake import PROBE, Manifest, Samples, check_answers, survey
from spikeproof.evaluate._packing import packed, unpacked
from spikeproof.evaluate._parts import FOLDER
from spikeproof.evaluate._rate_coding import RateCoding, rate_coder, rate_coding_polls
from spikeproof.evaluate._record import Record
from spikeproof.evaluate._runner import Progress
from spikeproof.evaluate._smoothing import Smoothing, smoothed_polls
from spikeproof.evaluate._suite import plain
from spikeproof.records import read_json, write_json
from spikeproof.spiking import certified_margins, crown_margins

RECORD = "record.json"
CHUNK = 16  # samples that are bounded at once, kept whole or not at all


@dataclass(frozen=True)
class IBP:
    """Interval bounds of a spiking network's margins, followed through layers and neurons."""

    kind: Literal["ibp"] = "ibp"


@dataclass(frozen=True)
class CROWN:
    """Linear bounds of a spiking network's margins, nowhere looser than those by intervals.

    ``steps`` improve the slopes of the lines; at most ``most`` membranes of a sample, neurons times
    steps of time, are bounded.
    """

    steps: int = 20
    most: int = 4_000
    kind: Literal["crown"] = "crown"

    def __post_init__(self) -> None:
        within("steps", self.steps, 0, 1e6)
        within("most", self.most, 1, 1e9)


Method = IBP | CROWN | Exact | Smoothing | RateCoding


@dataclass(frozen=True)
class _Rows:
    clean: tuple[bool, ...]
    certified: tuple[bool, ...]
    margin: tuple[float, ...] = ()
    radius: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class _Task:
    model: nn.Module
    samples: Samples
    manifest: Manifest
    threat: Threat
    method: Method
    seed: int
    device: torch.device

    def rows(self, places: Sequence[int]) -> _Rows:
        """Returns what holds of these samples."""
        ids = tuple(self.manifest.indices[place] for place in places)
        x, y = (part.to(self.device) for part in self.samples.batch(torch.tensor(ids)))
        if isinstance(self.method, Smoothing | RateCoding):
            return self._voted(x, y, ids)
        with torch.no_grad():
            clean = correct(self.model(x), y)
        if isinstance(self.method, Exact):
            apart = exact_margins(self.model, x, y, self.threat, self.method)
        else:
            held = region(x.double(), self.threat, JUDGED)
            if isinstance(self.method, CROWN):
                apart = crown_margins(
                    self.model, held, y, most=self.method.most, steps=self.method.steps
                )
            else:
                apart = certified_margins(self.model, held, y)
        others = apart.scatter(1, y[:, None], torch.inf).amin(1)
        sure = others > 0
        if bool((sure & ~clean).any()):
            raise RuntimeError("a bound excludes the network's own answer: it is none")
        return _Rows(tuple(clean.tolist()), tuple(sure.tolist()), margin=tuple(others.tolist()))

    def _voted(self, x: Tensor, y: Tensor, ids: tuple[int, ...]) -> _Rows:
        method = self.method
        if isinstance(method, RateCoding):
            polls = rate_coding_polls(self.model, x, ids, method, self.seed)
            steps, values = rate_coder(self.model).T, x[0].numel()
            radii = [method.radius(poll.lower, steps, values) for poll in polls]
        elif isinstance(method, Smoothing):
            polls = smoothed_polls(self.model, x, ids, method, self.seed)
            radii = [method.radius(poll.lower) for poll in polls]
        right = [poll.answer == label for poll, label in zip(polls, y.tolist(), strict=True)]
        if not isinstance(self.threat, L1 | L2):
            raise TypeError(f"{self.threat} has no radius")
        held = beyond(radii, self.threat.eps, JUDGED)
        return _Rows(
            tuple(hit and radius > 0 for hit, radius in zip(right, radii, strict=True)),
            tuple(hit and far for hit, far in zip(right, held, strict=True)),
            radius=tuple(radii),
        )


def certify(
    model: nn.Module,
    data: Samples | Dataset,
    threat: Threat,
    method: Method | None = None,
    *,
    out: Path | None = None,
    conditions: Conditions | None = None,
    against: Record | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Certificate:
    """Returns of every sample whether its answer is proved to stay right under a threat.

    The method is interval bounds by default. ``against`` is an evaluation of the same network,
    threat and samples: certified samples must be among those that stand. In the folder ``out`` a
    killed certification can be resumed, and the record is written at the end.
    """
    method, conditions = method or IBP(), conditions or Conditions()
    _check(threat, method, conditions)
    manifest = survey(data, conditions.limit, threat)
    samples = data.test if isinstance(data, Dataset) else data
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with under_attack(model):
        probe = samples.batch(torch.tensor(manifest.indices[:PROBE]))[0].to(device)
        check_answers(model, probe, manifest.labels)
        task = _Task(model, samples, manifest, threat, method, conditions.seed, device)
        promise = _promise(task)
        with claimed(out, promise, resume=conditions.resume) if out else nullcontext():
            if out and (out / RECORD).exists():
                made = read_certificate(out / RECORD)
            else:
                made = _made(task, out, watch)
            if against is not None:
                made = replace(made, checks=(sandwich(made, against),))
            if out:
                write_certificate(out / RECORD, made)
                shutil.rmtree(out / FOLDER, ignore_errors=True)
    return made


def _made(task: _Task, out: Path | None, watch: Callable[[Progress], None] | None) -> Certificate:
    began, count = (datetime.now(UTC), time.monotonic()), len(task.manifest.indices)
    parts, fresh, sure = list[_Rows](), 0, 0
    for start in range(0, count, CHUNK):
        places = range(start, min(start + CHUNK, count))
        path = out and out / FOLDER / f"{start:08d}.json"
        if path and path.exists():
            parts.append(unpacked(_Rows, read_json(path)))
        else:
            parts.append(task.rows(places))
            fresh += len(places)
            if path:
                write_json(path, packed(asdict(parts[-1])))
        sure += sum(parts[-1].certified)
        if watch:
            rate = max(fresh, 1) / max(time.monotonic() - began[1], 1e-9)
            name, done = task.method.kind, places.stop
            watch(Progress(name, 1, 1, sure, done, count, rate, (count - done) / rate))

    def whole(name: str) -> tuple[Any, ...]:
        return tuple(value for part in parts for value in getattr(part, name))

    return Certificate(
        model=_model(task.model, fingerprint(task.model)),
        data=task.manifest,
        threat=plain(task.threat),
        method=plain(task.method),
        seed=task.seed,
        clean=whole("clean"),
        certified=whole("certified"),
        margin=whole("margin"),
        radius=whole("radius"),
        checks=(),
        environment=_environment(task.device),
        times=_times(began, {}, CHUNK),
    )


def _check(threat: Threat, method: Method, conditions: Conditions) -> None:
    wanted: dict[str, type[L1 | L2]] = {"smoothing": L2, "rate_coding": L1}
    if method.kind in wanted and not isinstance(threat, wanted[method.kind]):
        raise Refusal(
            f"the threat is {threat} and the method {method.kind}; its radius is one in "
            f"{wanted[method.kind].kind}; take a threat of it, such as l1:0.1 or l2:0.1, or the "
            "method ibp"
        )
    if conditions.shard[1] > 1:
        raise Refusal(
            f"the shard is {conditions.shard}; a certificate is made by one process; take 1/1"
        )


def _promise(task: _Task) -> dict[str, Any]:
    return {
        "kind": "certificate",
        "weights": fingerprint(task.model),
        "network": identity(task.model),
        "data": {
            "samples": len(task.manifest.indices),
            "labels": task.manifest.label_sha256,
            "tensors": task.manifest.tensor_sha256,
        },
        "threat": plain(task.threat),
        "method": plain(task.method),
        "seed": task.seed,
    }
