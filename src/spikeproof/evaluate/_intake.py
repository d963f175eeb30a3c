"""What comes in: samples and a model, looked at before hours are spent on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof.attacks import Ball, Threat, fingerprint
from spikeproof.data import Dataset
from spikeproof.errors import Refusal

CHUNK = 1024
PROBE = 64


@runtime_checkable
class Samples(Protocol):
    """Labelled samples that can be asked for by number."""

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns inputs (float32) and labels (int64) of these numbers, on the CPU."""
        ...


@dataclass(frozen=True)
class Manifest:
    """Which samples were evaluated, so that anybody can tell whether two records are of the same.

    ``training`` counts the evaluated samples that are training samples too, or is None where the
    training samples are not known.
    """

    name: str
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    shape: tuple[int, ...]
    tensor_sha256: str
    label_sha256: str
    training: int | None = None


def survey(data: Samples | Dataset, limit: int, threat: Threat) -> Manifest:
    """Returns the manifest of the first ``limit`` samples, every class in proportion; 0 for all."""
    samples = data.test if isinstance(data, Dataset) else data
    name = data.name if isinstance(data, Dataset) else type(data).__name__
    if not len(samples) or not 0 <= limit <= len(samples):
        raise Refusal(
            f"{limit} samples were asked of {len(samples)}; ask for 1..{len(samples)}, or for all "
            "with 0"
        )
    indices = in_proportion(_labels(samples), limit) if limit else range(len(samples))
    labels, shape, seals = _read(samples, tuple(indices), threat)
    both = None
    if isinstance(data, Dataset):
        known = set(_read(data.train, tuple(range(len(data.train))), None)[2])
        both = sum(seal in known for seal in seals)
    return Manifest(
        name=name,
        indices=tuple(indices),
        labels=labels,
        shape=shape,
        tensor_sha256=hashlib.sha256(b"".join(seals)).hexdigest(),
        label_sha256=hashlib.sha256(np.asarray(labels, "<i8").tobytes()).hexdigest(),
        training=both,
    )


def sealed(samples: Samples, manifest: Manifest) -> bool:
    """Returns whether the samples still are those of the manifest."""
    labels, _, seals = _read(samples, manifest.indices, None)
    digest = hashlib.sha256(b"".join(seals)).hexdigest()
    return (labels, digest) == (manifest.labels, manifest.tensor_sha256)


def check_answers(model: nn.Module, x: Tensor, labels: tuple[int, ...]) -> int:
    """Returns the number of classes, or refuses a model that cannot be judged; ``x`` is a probe."""
    name, before = type(model).__name__, fingerprint(model)
    # singly, too: the judge asks so, and a model may squeeze
    logits = torch.cat([_answer(model, name, part) for part in (x[:1], *x.split(4))])
    if fingerprint(model) != before:
        raise Refusal(
            f"{name} changes a weight or a buffer when it answers in eval mode; attacks and judge "
            "must meet one and the same network; keep what it counts out of its state"
        )
    if not bool(logits.isfinite().all()):
        raise Refusal(
            f"{name} returns NaN or infinite logits for clean samples; logits are numbers; look "
            "for a division by zero, or for weights that never converged"
        )
    total = logits.sum(1)
    if bool((logits >= 0).all() and (logits <= 1).all() and ((total - 1).abs() < 1e-5).all()):
        raise Refusal(
            f"{name} returns probabilities (from 0 to 1, of sum 1); a softmax hides the gradient; "
            "return the logits before it"
        )
    if (top := max(labels)) >= logits.shape[1]:
        raise Refusal(
            f"a label is {top} and {name} has {logits.shape[1]} classes; labels are "
            f"0..{logits.shape[1] - 1}; renumber them or take the model of this data set"
        )
    return logits.shape[1]


def told(error: Exception) -> str:
    """Returns what was raised, on one line; a refusal says what it says."""
    said = (str(error).splitlines() or [""])[0]
    return said if isinstance(error, Refusal) else f"{type(error).__name__}: {said}"


def _answer(model: nn.Module, name: str, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(x)
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise Refusal(
            f"{name} returns {_described(logits)}; it must return logits (B, K) as floats; wrap it "
            "in a module that does"
        )
    if logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise Refusal(
            f"{name} returns the shape {tuple(logits.shape)} for {len(x)} samples; logits have the "
            "shape (B, K) with at least two classes; take the mean over time and flatten the rest"
        )
    return logits


def _read(
    samples: Samples, indices: tuple[int, ...], threat: Threat | None
) -> tuple[tuple[int, ...], tuple[int, ...], list[bytes]]:
    labels: list[int] = []
    seals: list[bytes] = []
    shape: tuple[int, ...] = ()
    for start in range(0, len(indices), CHUNK):
        x, y = samples.batch(torch.tensor(indices[start : start + CHUNK]))
        if threat is not None:
            _check_batch(x, y, threat)
        shape = tuple(x.shape[1:])
        labels += y.tolist()
        rows = x.contiguous().cpu().numpy()
        seals += [hashlib.sha256(row.tobytes()).digest() for row in rows]
    return tuple(labels), shape, seals


def _check_batch(x: Tensor, y: Tensor, threat: Threat) -> None:
    if x.dtype != torch.float32 or y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise Refusal(
            f"samples are {x.dtype} with labels {y.dtype} of shape {tuple(y.shape)}; inputs are "
            "float32 with one int64 label each; convert them"
        )
    if int(y.min()) < 0:
        raise Refusal(f"a label is {int(y.min())}; labels are 0..K-1; renumber them")
    if not bool(threat.admits(x, x).all()):
        low, high = (float(value) for value in x.nan_to_num(torch.nan).aminmax())
        rule = (
            f"within {threat.low:g}..{threat.high:g}" if isinstance(threat, Ball) else "admissible"
        )
        raise Refusal(
            f"samples span {low:g}..{high:g}; under {threat} even an unchanged input must be "
            f"{rule}; scale the data and put the normalisation inside the model"
        )


def _labels(samples: Samples) -> Tensor:
    return torch.cat([samples.batch(part)[1] for part in torch.arange(len(samples)).split(CHUNK)])


def in_proportion(y: Tensor, limit: int) -> list[int]:
    """Returns the first places of each label, each label in proportion, in their old order."""
    places = torch.arange(len(y))
    _, label, counts = y.unique(return_inverse=True, return_counts=True)
    order = label.argsort(stable=True)
    start = counts.cumsum(0) - counts
    rank = torch.empty_like(places)
    rank[order] = places - start.repeat_interleave(counts)
    share = (rank + 0.5).double() / counts[label]
    return share.argsort(stable=True)[:limit].sort().values.tolist()


def _described(thing: object) -> str:
    return f"{thing.dtype} values" if isinstance(thing, Tensor) else f"a {type(thing).__name__}"
