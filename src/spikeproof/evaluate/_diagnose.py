"""The entry to a diagnosis: a model, samples, a threat and gradient rules to a record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeproof.attacks import Attack, Threat, fingerprint, identity, under_attack
from spikeproof.data import Dataset
from spikeproof.errors import Refusal, nearest
from spikeproof.evaluate._blocks import claimed
from spikeproof.evaluate._diagnosis import Diagnosis, read_diagnosis, write_diagnosis
from spikeproof.evaluate._evaluate import Conditions
from spikeproof.evaluate._intake import PROBE, Samples, check_answers, survey
from spikeproof.evaluate._measurements import Measurements, Subject, Through
from spikeproof.evaluate._parts import FOLDER
from spikeproof.evaluate._runner import Progress
from spikeproof.evaluate._suite import plain
from spikeproof.evaluate._sweeps import climber
from spikeproof.evaluate._trials import named

RECORD = "record.json"
PARTS = ("trail", "rasters", "vulnerability", "landscape", "domains", "curves")
USUAL = 64  # samples


def diagnose(  # noqa: PLR0913  each is one thing that a diagnosis is of
    model: nn.Module,
    data: Samples | Dataset,
    threat: Threat,
    *,
    rules: Sequence[Through] = (None,),
    attack: Attack | None = None,
    only: Collection[str] = PARTS,
    out: Path | None = None,
    conditions: Conditions | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Diagnosis:
    """Returns what a network does with clean and attacked samples, and what its gradients hide.

    ``rules`` are the gradients that are followed, None being the model's own; ``attack`` makes the
    attacked samples, by default ten steps of plain ascent. ``only`` names the parts to measure.
    What a model does not allow is left out, and ``notes`` say so. In the folder ``out`` a killed
    diagnosis can be resumed, and the record is written at the end. Without ``conditions`` the
    first 64 samples are taken, every class in proportion.
    """
    samples = data.test if isinstance(data, Dataset) else data
    conditions = conditions or Conditions(limit=min(USUAL, len(samples)))
    attack = attack or Attack(climber(threat))
    _check(rules, attack, threat, only, conditions)
    manifest = survey(data, conditions.limit, threat)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with under_attack(model):
        probe = samples.batch(torch.tensor(manifest.indices[:PROBE]))[0].to(device)
        check_answers(model, probe, manifest.labels)
        subject = Subject(
            model, samples, manifest, threat, attack, tuple(rules), conditions.seed, device
        )
        promise = _promise(subject, only)
        with claimed(out, promise, resume=conditions.resume) if out else nullcontext():
            if out and (out / RECORD).exists():
                return read_diagnosis(out / RECORD)
            asked = tuple(part for part in PARTS if part in only)
            diagnosis = Measurements(subject, asked, out, watch).all(data, conditions)
            if out:
                write_diagnosis(out / RECORD, diagnosis)
                shutil.rmtree(out / FOLDER, ignore_errors=True)
    return diagnosis


def _check(
    rules: Sequence[Through],
    attack: Attack,
    threat: Threat,
    only: Collection[str],
    conditions: Conditions,
) -> None:
    if unknown := sorted(set(only) - set(PARTS)):
        raise Refusal(f"{unknown[0]!r} is no part of a diagnosis; {nearest(unknown[0], PARTS)}")
    if not rules or len({named(rule) for rule in rules}) < len(rules):
        raise Refusal(
            f"the rules are {', '.join(map(named, rules)) or 'none'}; each gradient is followed "
            "once, and one at least; name them once"
        )
    if conditions.shard[1] > 1:
        raise Refusal(
            f"the shard is {conditions.shard}; a diagnosis is of few samples and made by one "
            "process; take 1/1"
        )
    if not attack.search.climbs or not isinstance(threat, attack.search.fits):
        raise Refusal(
            f"{attack.search} does not climb under {threat}; attacked samples are where an ascent "
            f"ends; take {climber(threat)}"
        )


def _promise(subject: Subject, only: Collection[str]) -> dict[str, Any]:
    return {
        "kind": "diagnosis",
        "weights": fingerprint(subject.model),
        "network": identity(subject.model),
        "data": {
            "samples": len(subject.manifest.indices),
            "labels": subject.manifest.label_sha256,
            "tensors": subject.manifest.tensor_sha256,
        },
        "threat": plain(subject.threat),
        "attack": plain(subject.attack),
        "rules": [plain(rule) for rule in subject.rules],
        "seed": subject.seed,
        "parts": [part for part in PARTS if part in only],
    }
