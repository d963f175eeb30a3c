"""Robustness after an export: what broke the network, shown to the file that was made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof import records
from spikeproof.attacks import Threat, correct, under_attack
from spikeproof.data import Dataset
from spikeproof.errors import Refusal
from spikeproof.evaluate._artifacts import check_terms, read_tensors, unchanged
from spikeproof.evaluate._intake import Samples
from spikeproof.evaluate._record import Record
from spikeproof.evaluate._suite import plain
from spikeproof.ir import read_nir, unpack
from spikeproof.runtime import Engine
from spikeproof.statistics import wilson

SCHEMA = 1
KIND = "replay"
AT_ONCE = 64
TIE = 1e-4  # between the two largest logits of the network

Answer = Callable[[np.ndarray], np.ndarray]
Batch = tuple[list[int], Tensor, Tensor]  # numbers in the test set, inputs, labels


@dataclass(frozen=True)
class Compared:
    """Two networks on the same inputs; samples by their number in the test set."""

    samples: int
    differ: tuple[int, ...]  # predicted otherwise
    ties: tuple[int, ...]  # of them those whose two largest logits are within TIE
    largest: float  # difference of a logit


@dataclass(frozen=True)
class Replay:
    """What became of a record's samples and adversarials in an exported file."""

    clean: Compared
    adversarial: Compared
    accuracy: float  # of the file, on the samples of the record
    fooled: tuple[int, ...]  # by the network's adversarial, of those that it has right
    spared: tuple[int, ...]  # the network was fooled by it and the file is not
    lost: tuple[int, ...]  # right in the network and wrong in the file, untouched
    robust_accuracy: float  # an upper bound: nobody attacked the file itself
    samples: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the upper bound."""
        return wilson(round(self.robust_accuracy * self.samples), self.samples)


def replay(
    folder: Path,
    record: Record,
    model: nn.Module,
    data: Samples | Dataset,
    threat: Threat,
    file: Path,
) -> Replay:
    """Shows the samples of a record and the adversarials beside it to an exported file.

    That is one of ``.spkp`` or ``.nir``, which our engine runs, or of ``.onnx``, which ONNX
    Runtime runs.
    """
    samples = data.test if isinstance(data, Dataset) else data
    check_terms(record, model, samples, threat)
    answer = answer_of(file)
    known = [record.data.indices[place] for place in record.places]
    kept = unchanged(folder, record)
    fallen = sum(record.clean) - sum(record.robust)
    if kept is None and fallen:
        raise Refusal(
            f"the record keeps none of the adversarials that broke {fallen} samples; "
            "they are what is replayed; evaluate again and keep them"
        )
    places, x_adv = read_tensors(kept) if kept else ([], torch.zeros(0))
    indices = [record.data.indices[place] for place in places]
    if strangers := set(indices) - set(known):
        raise Refusal(
            f"{kept} has sample {min(strangers)}, which the record does not speak of; adversarials "
            "are those of their record; evaluate anew"
        )
    clean, right = _compared(model, answer, _batches(samples, known))
    adversarial, resists = _compared(model, answer, _batches(samples, indices, x_adv))
    standing = [i for i in known if right[i] and resists.get(i, True)]
    return Replay(
        clean=clean,
        adversarial=adversarial,
        accuracy=sum(right.values()) / len(known),
        fooled=tuple(i for i in indices if right[i] and not resists[i]),
        spared=tuple(i for i in indices if resists[i]),
        lost=tuple(i for i, was in zip(known, record.clean, strict=True) if was and not right[i]),
        robust_accuracy=len(standing) / len(known),
        samples=len(known),
    )


def write_replay(path: Path, found: Replay, record: Path, file: Path) -> dict[str, Any]:
    """Writes what was found, of which record and of which file, and returns it."""
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": KIND,
        "record": {"file": record.name, "sha256": records.digest(record)},
        "exported": {"file": file.name, "sha256": records.digest(file)},
        **plain(found),
        "interval": list(found.interval),
        "environment": records.environment(),
    }
    records.write_json(path, values)
    return values


def answer_of(file: Path) -> Answer:
    """Returns what computes the logits of a batch by an exported file."""
    match file.suffix:
        case ".spkp":
            return Engine(unpack(file))
        case ".nir":
            return Engine(read_nir(file))
        case ".onnx":
            return _onnx(file)
    raise Refusal(
        f"{file} ends in {file.suffix or 'nothing'}; what can be run is .spkp, .onnx and .nir; "
        "export to one of them"
    )


def _onnx(file: Path) -> Answer:
    try:
        import onnxruntime
    except ImportError as error:
        raise Refusal(
            f"the package onnxruntime cannot be imported ({error}); it runs files of ONNX; "
            "pip install 'spikeproof[exchange]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what is wrong is told once, by us
    held = file.read_bytes()
    try:
        session = onnxruntime.InferenceSession(held, options, providers=["CPUExecutionProvider"])
        (entrance,), (out,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # the runtime has exceptions of its own for damaged files
        if isinstance(error, MemoryError):
            raise
        raise Refusal(
            f"{file} is no network of ONNX with one input and one output "
            f"({type(error).__name__}); it must be one that ONNX Runtime loads; export it anew"
        ) from None

    def answer(x: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(session.run([out.name], {entrance.name: x})[0])
        except Exception as error:  # as above
            if isinstance(error, MemoryError):
                raise
            raise Refusal(
                f"{file} takes {entrance.type} {entrance.shape} and samples are float32 "
                f"{list(x.shape)} ({type(error).__name__}); it must be a file of the network; "
                "export it anew"
            ) from None

    return answer


def _batches(samples: Samples, indices: list[int], x_adv: Tensor | None = None) -> Iterator[Batch]:
    for start in range(0, len(indices), AT_ONCE):
        chosen = indices[start : start + AT_ONCE]
        x, y = samples.batch(torch.tensor(chosen))
        yield chosen, x if x_adv is None else x_adv[start : start + AT_ONCE], y


def _compared(
    model: nn.Module, answer: Answer, batches: Iterable[Batch]
) -> tuple[Compared, dict[int, bool]]:
    """Returns how the answers differ, and for which samples those of the file are right."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    differ: list[int] = []
    ties: list[int] = []
    right: dict[int, bool] = {}
    largest = 0.0
    with under_attack(model), torch.no_grad():
        for indices, x, y in batches:
            ours = model(x.to(device)).float().cpu()
            theirs = torch.from_numpy(np.ascontiguousarray(answer(x.numpy())))
            if theirs.shape != ours.shape:
                raise Refusal(
                    f"the file answers {tuple(theirs.shape)} and the network {tuple(ours.shape)}; "
                    "they must be the same network; export it anew"
                )
            if not torch.isfinite(theirs).all():
                raise Refusal(
                    "the file answers NaN or infinity; logits are finite; export the network anew"
                )
            largest = max(largest, float((ours - theirs).abs().max()))
            top = ours.topk(2, 1).values
            close = (top[:, 0] - top[:, 1] <= TIE).tolist()
            other = (ours.argmax(1) != theirs.argmax(1)).tolist()
            differ += [i for i, unlike in zip(indices, other, strict=True) if unlike]
            both = zip(indices, other, close, strict=True)
            ties += [i for i, unlike, tied in both if unlike and tied]
            right.update(zip(indices, correct(theirs, y).tolist(), strict=True))
    return Compared(len(right), tuple(differ), tuple(ties), largest), right
