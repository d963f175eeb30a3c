"""CIFAR-10 and CIFAR-100, as published: records of bytes, or pickled dicts read as plain data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spikeproof.data._files import file_size, read_whole
from spikeproof.data._opcodes import read_plain
from spikeproof.data._sets import Split
from spikeproof.errors import Refusal

PIXELS = 3 * 32 * 32
LABEL_BYTES = {10: 1, 100: 2}  # CIFAR-100 puts one of 20 superclasses first
SUPERCLASSES = 20
FILES = {
    (10, "train"): tuple(f"data_batch_{k}" for k in range(1, 6)),
    (10, "test"): ("test_batch",),
    (100, "train"): ("train",),
    (100, "test"): ("test",),
}


def cifar_kind(path: Path) -> int:
    """Returns 10 or 100: whose records fill this binary file without a rest."""
    size = file_size(path)
    for classes, label_bytes in LABEL_BYTES.items():
        if size % (PIXELS + label_bytes) == 0:
            return classes
    raise Refusal(
        f"{path} has {size} bytes; CIFAR records have {PIXELS + 1} or {PIXELS + 2}, and a file "
        "holds whole ones; take a complete copy"
    )


def cifar_count(path: Path, classes: int) -> int:
    """Returns how many records a binary file holds."""
    record = PIXELS + LABEL_BYTES[classes]
    size = file_size(path)
    if size % record:
        raise Refusal(
            f"{path} has {size} bytes; records of CIFAR-{classes} have {record}, and a file holds "
            "whole ones; take a complete copy"
        )
    return size // record


def read_cifar_binary(path: Path, classes: int) -> Split:
    """Returns the samples of one binary file of CIFAR-10 or CIFAR-100."""
    count = cifar_count(path, classes)
    records = np.frombuffer(read_whole(path), np.uint8).reshape(count, -1)
    label_bytes = LABEL_BYTES[classes]
    if classes == 100 and (top := int(records[:, 0].max())) >= SUPERCLASSES:
        raise Refusal(
            f"{path} has the superclass {top}; CIFAR-100 has 0..{SUPERCLASSES - 1}; "
            "take the published file"
        )
    labels = records[:, label_bytes - 1].astype(np.int64)
    return _split(path, records[:, label_bytes:], labels, classes)


def read_cifar_python(path: Path, classes: int | None = None) -> Split:
    """Returns the samples of one pickled batch; nothing in it is executed.

    Without ``classes`` the batch is one of CIFAR-100 if it has fine labels.
    """
    plain = read_plain(path)
    data = plain.get("data")
    if classes is None:
        classes = 100 if "fine_labels" in plain else 10
    key = "fine_labels" if classes == 100 else "labels"
    labels = plain.get(key)
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = labels.tolist()
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2):
        raise Refusal(
            f"{path} has no uint8 array of rows under 'data'; a CIFAR batch has one; "
            "take the published file"
        )
    if not isinstance(labels, list) or not all(
        type(label) is int and 0 <= label < classes for label in labels
    ):
        raise Refusal(
            f"{path} has no list of numbers 0..{classes - 1} under {key!r}; "
            f"a batch of CIFAR-{classes} has one; take the published file"
        )
    return _split(path, data, np.array(labels, np.int64), classes)


def cifar_files(folder: Path, classes: int, part: str, ending: str) -> list[Path]:
    """Returns the files of ``train`` or ``test``; their names end in ``.bin`` or in nothing."""
    paths = [folder / f"{stem}{ending}" for stem in FILES[classes, part]]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise Refusal(
            f"{folder} has no {', '.join(missing)}; CIFAR-{classes} needs every batch; add them"
        )
    return paths


def read_cifar_folder(folder: Path, classes: int, part: str, ending: str) -> Split:
    """Returns ``train`` or ``test`` from a folder of batches, binary or pickled."""
    read = read_cifar_binary if ending else read_cifar_python
    splits = [read(path, classes) for path in cifar_files(folder, classes, part, ending)]
    if len(splits) == 1:
        return splits[0]
    return Split(
        torch.cat([split.x for split in splits]), torch.cat([split.y for split in splits]), 1 / 255
    )


def _split(path: Path, pixels: np.ndarray, labels: np.ndarray, classes: int) -> Split:
    if pixels.shape != (len(labels), PIXELS) or not len(labels):
        raise Refusal(
            f"{path} has pixels of shape {pixels.shape} for {len(labels)} labels; each label "
            f"needs {PIXELS} pixels; take the published file"
        )
    if (top := int(labels.max())) >= classes:
        raise Refusal(
            f"{path} has the label {top}; CIFAR-{classes} has 0..{classes - 1}; "
            "take the published file"
        )
    x = np.ascontiguousarray(pixels).reshape(-1, 3, 32, 32)
    return Split(torch.from_numpy(x.copy()), torch.from_numpy(labels), 1 / 255)
