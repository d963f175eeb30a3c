"""The entry: a model, samples, a threat and a suite to a record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeproof import records
from spikeproof.attacks import Threat, fingerprint, identity, stochastic, under_attack
from spikeproof.data import Dataset
from spikeproof.errors import Refusal
from spikeproof.evaluate._artifacts import gather, keep_originals, unchanged
from spikeproof.evaluate._blocks import PROMISE, Blocks, claimed, tidy
from spikeproof.evaluate._checks import made
from spikeproof.evaluate._doubts import Evidence, doubts, reading
from spikeproof.evaluate._intake import PROBE, Samples, check_answers, sealed, survey
from spikeproof.evaluate._merge import concluded, merge
from spikeproof.evaluate._record import Check, Finding, Record, read_record, write_record
from spikeproof.evaluate._runner import Job, Progress, conduct
from spikeproof.evaluate._suite import Suite, plain
from spikeproof.evaluate._suites import named_suite
from spikeproof.evaluate._transfer import beside, with_transfer
from spikeproof.interop import Adopted, adoption_of

RECORD = "record.json"
DRAWS = 10  # of a stochastic network, for each gradient


@dataclass(frozen=True)
class Conditions:
    """How an evaluation is run; only ``limit`` and ``seed`` change a result."""

    limit: int = 0  # samples, every class in proportion; 0 for all
    seed: int = 0
    batch: int = 64
    shard: tuple[int, int] = (1, 1)  # this part, of so many
    resume: bool = False
    keep_adversarials: bool = True  # at most one input per sample, beside the record

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise Refusal(f"the batch is {self.batch}; it holds at least one sample; take 64")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise Refusal(
                f"the shard is {self.shard[0]}/{self.shard[1]}; parts count from 1; take 1/1"
            )


Checks = Sequence[Callable[[Evidence], Iterable[Check]]]
Gathered = Callable[[Iterable[Path], Path, Record], Record]  # with its artifacts


def evaluate(  # noqa: PLR0913  each is one thing that an evaluation is of
    model: nn.Module,
    data: Samples | Dataset,
    threat: Threat,
    suite: str | Suite = "standard",
    *,
    out: Path | None = None,
    conditions: Conditions | None = None,
    checks: Checks | None = None,
    transfer: Mapping[str, nn.Module] | None = None,
    control: nn.Module | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Record:
    """Returns what a suite leaves of a model, and the doubts about it (``checks=None``: all).

    Of a ``Dataset`` the test samples are evaluated, and compared with its training samples. In
    the folder ``out`` a killed evaluation can be resumed, and the record is written at the end.
    ``transfer`` names other networks, trained for the same samples, whose gradients are followed.
    ``control`` is a network without a defence, on which the same gradients must succeed (C26).
    """
    conditions = conditions or Conditions()
    samples = data.test if isinstance(data, Dataset) else data
    names = data.classes if isinstance(data, Dataset) else ()
    manifest = survey(data, conditions.limit, threat)
    part, parts = conditions.shard
    places = tuple(range(part - 1, len(manifest.indices), parts))
    if not places:
        raise Refusal(
            f"shard {part}/{parts} of {len(manifest.indices)} samples is empty; take fewer shards"
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        stack.enter_context(under_attack(model))
        probe = samples.batch(torch.tensor(manifest.indices[:PROBE]))[0].to(device)
        classes = check_answers(model, probe, manifest.labels)
        others = {f"transfer source {name}": net for name, net in (transfer or {}).items()}
        if control is not None:
            others["the undefended network"] = control
        for role, network in others.items():
            stack.enter_context(beside(role, network, probe, manifest.labels, classes))
        draws = DRAWS if stochastic(model) else 1
        tier = suite if isinstance(suite, str) else ""
        if isinstance(suite, str):
            suite = named_suite(suite, threat, classes, manifest.shape, draws=draws)
        if transfer:
            suite = with_transfer(suite, threat, transfer, classes, draws=draws)
        suite.check(threat)
        weights = fingerprint(model)
        job = Job(model, samples, manifest, places, threat, suite, conditions.seed, device, weights)

        def doubted(record: Record) -> Record:
            return _doubted(Evidence(job, classes, record, control, tier), checks)

        gathered = partial(_gathered, job, names)
        folder = _folder(out, conditions.shard)
        record = _recorded(job, folder, conditions, control, doubted, gathered, watch)
        if out:
            _merge_shards(out, parts, gathered)
    return record


def _recorded(
    job: Job,
    folder: Path | None,
    conditions: Conditions,
    control: nn.Module | None,
    doubted: Callable[[Record], Record],
    gathered: Gathered,
    watch: Callable[[Progress], None] | None,
) -> Record:
    """Returns the record of this part; a folder that holds it already is believed."""
    began = datetime.now(UTC), time.monotonic()
    promise = _promise(job, conditions, control)
    if folder and conditions.shard[1] > 1:
        _check_shards(folder, promise)
    with claimed(folder, promise, resume=conditions.resume) if folder else nullcontext():
        if folder and (folder / RECORD).exists():
            tidy(folder)
            record = read_record(folder / RECORD)
            unchanged(folder, record)
            return record
        blocks = Blocks(folder, adversarials=conditions.keep_adversarials)
        clean, steps, seconds = conduct(job, blocks, conditions.batch, watch)
        record = doubted(
            Record(
                model=_model(job.model, job.weights),
                data=job.manifest,
                threat=plain(job.threat),
                suite=job.suite.name,
                seed=conditions.seed,
                places=job.places,
                shard=conditions.shard,
                clean=clean,
                steps=steps,
                checks=(),
                finding=Finding("no evidence of masking"),
                environment=_environment(job.device),
                times={},
                control=promise["control"],
            )
        )
        record = replace(record, times=_times(began, seconds, conditions.batch))
        if folder and blocks.adversarials:
            record = gathered(blocks.files, folder, record)
        if folder:
            write_record(folder / RECORD, record)
            tidy(folder)
    return record


def _gathered(
    job: Job, names: Sequence[str], files: Iterable[Path], folder: Path, record: Record
) -> Record:
    """Returns the record with what is written beside it: what fell, and what some of it was."""
    kept = gather(files, folder, record.places, record.steps)
    if kept:
        kept |= keep_originals(folder, job.model, job.samples, job.manifest, names)
    return replace(record, artifacts=kept)


def _doubted(evidence: Evidence, checks: Checks | None) -> Record:
    """Returns the record with all that is doubtful; bits are read where all checks are made."""
    makes = (doubts,) if checks is None else checks
    measured = made(*(tuple(make(evidence)) for make in makes))
    read = reading(evidence, measured).plain if checks is None else {}
    if checks is None:  # read from the steps, which know the curve over draws
        measured = tuple(check for check in measured if check.id != "C20")
    record = replace(evidence.record, measured=measured, reading=read)
    return concluded(record, intact=sealed(evidence.job.samples, evidence.job.manifest))


def _folder(out: Path | None, shard: tuple[int, int]) -> Path | None:
    return out / f"shard-{shard[0]}-of-{shard[1]}" if out and shard[1] > 1 else out


def _merge_shards(out: Path, parts: int, gathered: Gathered) -> None:
    paths = [out / f"shard-{part}-of-{parts}" / RECORD for part in range(1, parts + 1)]
    if parts > 1 and all(path.exists() for path in paths):
        records = [read_record(path) for path in paths]
        whole = merge(records)
        if any("adversarials" in record.artifacts for record in records):
            pairs = zip(paths, records, strict=True)
            files = [unchanged(path.parent, record) for path, record in pairs]
            whole = gathered([file for file in files if file], out, whole)
        write_record(out / RECORD, whole)


def _check_shards(folder: Path, promise: Mapping[str, Any]) -> None:
    """Refuses a shard that could not be put together with those that were begun beside it."""
    part, parts = promise["shard"]
    mine = json.loads(json.dumps(promise))
    others = folder.parent.glob(f"shard-*-of-{parts}/{PROMISE}")
    for path in sorted(path for path in others if path.parent != folder):
        begun = records.read_json(path) | {"shard": [part, parts]}
        pairs = ((_by_id(begun), _by_id(mine)), (begun, mine))  # the second for their order
        for key, there, here in chain(*(records.differences(*pair) for pair in pairs)):
            raise Refusal(
                f"{key} is {there} in {path.parent} and {here} here; shards are parts of one "
                "evaluation; set it back or choose another --out"
            )


def _by_id(promise: Mapping[str, Any]) -> dict[str, Any]:
    steps = {step["id"]: step for step in promise["suite"]["steps"]}
    return {**promise, "suite": {**promise["suite"], "steps": steps}}


def _promise(job: Job, conditions: Conditions, control: nn.Module | None) -> dict[str, Any]:
    return {
        "weights": job.weights,
        "network": identity(job.model),
        "data": {
            "samples": len(job.manifest.indices),
            "labels": job.manifest.label_sha256,
            "tensors": job.manifest.tensor_sha256,
        },
        "threat": plain(job.threat),
        "suite": plain(job.suite),
        "seed": conditions.seed,
        "shard": list(conditions.shard),
        "control": "" if control is None else fingerprint(control),
        "adversarials": conditions.keep_adversarials,
    }


def _model(model: nn.Module, weights: str) -> dict[str, Any]:
    adoption = adoption_of(model)
    return {
        "name": type(model.net if isinstance(model, Adopted) else model).__name__,
        "weights_sha256": weights,
        "network_sha256": identity(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **({"adopted": adoption} if adoption else {}),
    }


def _environment(device: torch.device) -> dict[str, Any]:
    return records.environment() | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def _times(began: tuple[datetime, float], seconds: dict[str, float], batch: int) -> dict[str, Any]:
    return {
        "started": began[0].isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_of_this_process": round(time.monotonic() - began[1], 3),
        "seconds_of_steps": {name: round(value, 3) for name, value in seconds.items()},
        "batch": batch,
    }
