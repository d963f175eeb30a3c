"""The entry: a model, samples, a threat and a suite to a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeproof import records
from spikeproof.attacks import Threat, fingerprint, stochastic, under_attack
from spikeproof.data import Dataset
from spikeproof.errors import Refusal
from spikeproof.evaluate._blocks import Blocks, claimed
from spikeproof.evaluate._checks import worst_of
from spikeproof.evaluate._doubts import Evidence, doubts
from spikeproof.evaluate._finding import conclude, own_checks
from spikeproof.evaluate._intake import PROBE, Samples, check_answers, sealed, survey
from spikeproof.evaluate._merge import merge
from spikeproof.evaluate._record import Check, Finding, Record, read_record, write_record
from spikeproof.evaluate._runner import Job, Progress, conduct
from spikeproof.evaluate._suite import Suite, plain
from spikeproof.evaluate._suites import named_suite

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

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise Refusal(f"the batch is {self.batch}; it holds at least one sample; take 64")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise Refusal(
                f"the shard is {self.shard[0]}/{self.shard[1]}; parts count from 1; take 1/1"
            )


Checks = Sequence[Callable[[Evidence], Iterable[Check]]]


def evaluate(
    model: nn.Module,
    data: Samples | Dataset,
    threat: Threat,
    suite: str | Suite = "standard",
    *,
    out: Path | None = None,
    conditions: Conditions | None = None,
    checks: Checks | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Record:
    """Returns what a suite leaves of a model, and the doubts about it (``checks=None``: all).

    Of a ``Dataset`` the test samples are evaluated, and compared with its training samples. In
    the folder ``out`` a killed evaluation can be resumed, and the record is written at the end.
    """
    conditions = conditions or Conditions()
    began = datetime.now(UTC), time.monotonic()
    samples = data.test if isinstance(data, Dataset) else data
    manifest = survey(data, conditions.limit, threat)
    part, parts = conditions.shard
    places = tuple(range(part - 1, len(manifest.indices), parts))
    if not places:
        raise Refusal(
            f"shard {part}/{parts} of {len(manifest.indices)} samples is empty; take fewer shards"
        )
    folder = _folder(out, conditions.shard)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        stack.enter_context(under_attack(model))
        probe, _ = samples.batch(torch.tensor(manifest.indices[:PROBE]))
        classes = check_answers(model, probe.to(device), manifest.labels)
        if isinstance(suite, str):
            draws = DRAWS if stochastic(model) else 1
            suite = named_suite(suite, threat, classes, manifest.shape, draws=draws)
        suite.check(threat)
        weights = fingerprint(model)
        job = Job(model, samples, manifest, places, threat, suite, conditions.seed, device, weights)
        if folder:
            promise = _promise(job, conditions)
            stack.enter_context(claimed(folder, promise, resume=conditions.resume))
            if (folder / RECORD).exists():
                return read_record(folder / RECORD)
        clean, steps, seconds = conduct(job, Blocks(folder), conditions.batch, watch)
        own = own_checks(manifest, steps, intact=sealed(samples, manifest))
        record = Record(
            model=_model(model, weights),
            data=manifest,
            threat=plain(threat),
            suite=suite.name,
            seed=conditions.seed,
            places=places,
            shard=conditions.shard,
            clean=clean,
            steps=steps,
            checks=own,
            finding=Finding("no evidence of masking"),
            environment=_environment(device),
            times=_times(began, seconds, conditions.batch),
        )
        evidence = Evidence(job, classes, record)
        found = worst_of(own, *(tuple(make(evidence)) for make in _chosen(checks)))
        record = replace(record, checks=found, finding=conclude(found, steps))
        if folder:
            write_record(folder / RECORD, record)
    if out:
        _merge_shards(out, parts)
    return record


def _chosen(checks: Checks | None) -> Checks:
    return (doubts,) if checks is None else checks


def _folder(out: Path | None, shard: tuple[int, int]) -> Path | None:
    return out / f"shard-{shard[0]}-of-{shard[1]}" if out and shard[1] > 1 else out


def _merge_shards(out: Path, parts: int) -> None:
    paths = [out / f"shard-{part}-of-{parts}" / RECORD for part in range(1, parts + 1)]
    if parts > 1 and all(path.exists() for path in paths):
        write_record(out / RECORD, merge([read_record(path) for path in paths]))


def _promise(job: Job, conditions: Conditions) -> dict[str, Any]:
    return {
        "weights": job.weights,
        "data": {
            "samples": len(job.manifest.indices),
            "labels": job.manifest.label_sha256,
            "tensors": job.manifest.tensor_sha256,
        },
        "threat": plain(job.threat),
        "suite": plain(job.suite),
        "seed": conditions.seed,
        "shard": list(conditions.shard),
    }


def _model(model: nn.Module, weights: str) -> dict[str, Any]:
    return {
        "name": type(model).__name__,
        "weights_sha256": weights,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
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
