"""Adversarials that somebody else found, judged against the record of an evaluation."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof import records
from spikeproof.attacks import Threat, under_attack
from spikeproof.data import Dataset
from spikeproof.errors import Refusal
from spikeproof.evaluate._artifacts import check_terms
from spikeproof.evaluate._feasible import possible
from spikeproof.evaluate._intake import Samples
from spikeproof.evaluate._judge import judge
from spikeproof.evaluate._record import Record
from spikeproof.evaluate._suite import plain
from spikeproof.statistics import wilson

SCHEMA = 1
KIND = "submission"
AT_ONCE = 64
NAMES = ("x_adv", "indices")


@dataclass(frozen=True)
class Submission:
    """What became of proposals; samples by their number in the test set."""

    samples: int  # of the record
    given: tuple[int, ...]
    outside: tuple[int, ...]  # beyond budget or range, or no numbers, or what no sensor delivers
    unconfirmed: tuple[int, ...]  # the network answers them rightly
    broken: tuple[int, ...]
    new: tuple[int, ...]  # of them those that the record's suite left standing
    stood: int

    @property
    def robust_accuracy(self) -> float:
        """The worst case over the record's suite and these."""
        return (self.stood - len(self.new)) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the worst case."""
        return wilson(self.stood - len(self.new), self.samples)


def submit(
    file: Path, record: Record, model: nn.Module, data: Samples | Dataset, threat: Threat
) -> Submission:
    """Judges the adversarials of an ``.npz`` file; they count as those of any attack of ours.

    It holds ``x_adv``, one input a sample in the units of the data, and ``indices``, the numbers
    of these samples in the test set; without them they are all samples of the record, in its order.
    """
    samples = data.test if isinstance(data, Dataset) else data
    check_terms(record, model, samples, threat)
    known = [record.data.indices[place] for place in record.places]
    indices, x_adv = _read(file, known, record.data.shape)
    outside, unconfirmed, broken = set[int](), set[int](), set[int]()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with under_attack(model):
        for rows in torch.arange(len(indices)).split(AT_ONCE):
            ids = [indices[row] for row in rows.tolist()]
            x, y = (part.to(device) for part in samples.batch(torch.tensor(ids)))
            proposed = x_adv[rows].to(device)
            verdict = judge(model, proposed, x, y, threat, batch=1)
            feasible = torch.tensor(possible(proposed, x, threat), device=device)
            lawful = verdict.admissible & verdict.finite & feasible
            for i, allowed, fooled in zip(
                ids, lawful.tolist(), verdict.fooled.tolist(), strict=True
            ):
                (broken if allowed and fooled else outside if not allowed else unconfirmed).add(i)
    stood = {i for i, stands in zip(known, record.robust, strict=True) if stands}
    right = {i for i, right in zip(known, record.clean, strict=True) if right}

    def listed(of: set[int]) -> tuple[int, ...]:
        return tuple(i for i in indices if i in of)

    return Submission(
        samples=len(known),
        given=tuple(indices),
        outside=listed(outside),
        unconfirmed=listed(unconfirmed),
        broken=listed(broken & right),
        new=listed(broken & stood),
        stood=len(stood),
    )


def write_submission(path: Path, found: Submission, record: Path, file: Path) -> dict[str, Any]:
    """Writes what was judged, of which record and of which file, and returns it."""
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": KIND,
        "record": {"file": record.name, "sha256": records.digest(record)},
        "adversarials": {"file": file.name, "sha256": records.digest(file)},
        **plain(found),
        "robust_accuracy": found.robust_accuracy,
        "interval": list(found.interval),
        "environment": records.environment(),
    }
    records.write_json(path, values)
    return values


def _read(file: Path, known: Sequence[int], shape: tuple[int, ...]) -> tuple[list[int], Tensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            heads = {n: _head(archive, n) for n in NAMES if f"{n}.npy" in archive.namelist()}
    except Exception as error:  # a damaged archive raises what its reader likes
        if isinstance(error, OSError | MemoryError):
            raise
        raise _unreadable(file, error) from None
    if "x_adv" not in heads:
        raise _unreadable(file, KeyError("x_adv"))
    given, kind = heads["x_adv"]
    counted, whole = heads.get("indices", ((len(known),), np.dtype(np.int64)))
    if kind.kind not in "fiub" or whole.kind not in "iu" or len(counted) != 1:
        raise Refusal(
            f"{file} has x_adv of {kind} and indices of {whole} {counted}; inputs are numbers and "
            "indices a list of whole ones; write them so"
        )
    if given != (*counted, *shape) or not 0 < counted[0] <= len(known):
        raise Refusal(
            f"{file} has x_adv of shape {given} for {counted[0]} of {len(known)} samples of "
            f"{shape}; there is one input for each sample; give indices, or an input for all of "
            "the record"
        )
    try:
        with np.load(file, allow_pickle=False) as archive:
            x_adv = archive["x_adv"]
            indices = archive["indices"] if "indices" in heads else np.asarray(known)
    except Exception as error:  # as above
        if isinstance(error, OSError | MemoryError):
            raise
        raise _unreadable(file, error) from None
    ids = [int(i) for i in indices]
    if strangers := sorted(set(ids) - set(known)):
        raise Refusal(
            f"{file} has sample {strangers[0]}, which the record does not speak of; indices are "
            "numbers in the test set; leave it out"
        )
    if len(set(ids)) != len(ids):
        doubled = next(i for i in ids if ids.count(i) > 1)
        raise Refusal(f"{file} has sample {doubled} twice; each has one proposal; keep the better")
    return ids, torch.from_numpy(x_adv.astype(np.float32))


def _head(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Returns shape and kind of an array before any of it is unpacked."""
    with archive.open(f"{name}.npy") as member:
        old = np.lib.format.read_magic(member) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, kind = read(member)
    return shape, kind


def _unreadable(file: Path, error: Exception) -> Refusal:
    return Refusal(
        f"{file} is no npz archive with x_adv ({type(error).__name__}: {error}); write it by "
        "numpy.savez(file, x_adv=..., indices=...)"
    )
