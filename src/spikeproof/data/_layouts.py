"""How files of one format make a set, and the one way in for files that a user names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from spikeproof.data._aedat import read_aedat
from spikeproof.data._arrays import numbered, read_npz
from spikeproof.data._cifar import (
    FILES,
    cifar_count,
    cifar_files,
    cifar_kind,
    read_cifar_binary,
    read_cifar_folder,
    read_cifar_python,
)
from spikeproof.data._digits import CLASSES
from spikeproof.data._folder import read_folder
from spikeproof.data._framing import by_count
from spikeproof.data._idx import FILES as IDX_FILES
from spikeproof.data._idx import idx_count, idx_file, read_idx, read_idx_pair
from spikeproof.data._published import CIFAR10, CIFAR100
from spikeproof.data._recordings import Events, read_nmnist
from spikeproof.data._sets import Dataset, Split, held_out
from spikeproof.errors import Refusal, nearest, short

Content = Dataset | Split | Events | np.ndarray
NMNIST_FOLDERS = {"train": "Train", "test": "Test"}


@dataclass(frozen=True)
class Layout:
    """One way in which a set lies in a folder; ``part`` is ``train`` or ``test`` throughout."""

    shows: Callable[[Path], bool]  # whether the folder holds any of it
    files: Callable[[Path, str], list[Path]]
    count: Callable[[Path, str], int]
    read: Callable[[Path, str, int], Split]  # the last one is the steps of event frames


def read_path(
    kind: str, path: Path, *, steps: int = 10, validation: float = 0.1, seed: int = 0
) -> Content:
    """Returns what a user's file or folder holds, read as one of ``FORMATS``.

    A whole set comes as a Dataset; a single batch as a Split, a recording as Events, and an IDX
    file as the array that it is.
    """
    if kind not in FORMATS:
        raise Refusal(f"{short(kind)} is no format of data; {nearest(kind, FORMATS)}")
    if kind == "npz":
        return read_npz(path, validation=validation, seed=seed)
    if kind == "folder":
        return read_folder(path, validation=validation, seed=seed)
    if not path.is_dir():
        return FORMATS[kind](path)
    for name, classes in _FOLDERS.get(kind, {}).items():
        layout = LAYOUTS[name]
        if layout.shows(path):
            train, test = layout.read(path, "train", steps), layout.read(path, "test", steps)
            names = classes or numbered(path, train)
            return Dataset(path.name, *held_out(train, validation, seed=seed), test, names)
    raise Refusal(f"{path} is a folder without files of {kind}; check the path or the format")


def _idx_layout() -> Layout:
    def files(folder: Path, part: str) -> list[Path]:
        return [idx_file(folder, stem) for stem in IDX_FILES[part]]

    def count(folder: Path, part: str) -> int:
        images, labels = map(idx_count, files(folder, part))
        if images != labels:
            raise Refusal(
                f"{folder} has {images} {part} images and {labels} labels; each image needs one "
                "label; take the files of one set"
            )
        return images

    return Layout(
        shows=lambda folder: any(folder.glob("*-ubyte*")),
        files=files,
        count=count,
        read=lambda folder, part, _steps: read_idx_pair(folder, part),
    )


def _cifar_layout(classes: int, ending: str) -> Layout:
    def size(path: Path) -> int:
        return cifar_count(path, classes) if ending else len(read_cifar_python(path, classes))

    stems = [*FILES[classes, "train"], *FILES[classes, "test"]]
    files = partial(cifar_files, classes=classes, ending=ending)
    return Layout(
        shows=lambda folder: any((folder / f"{stem}{ending}").is_file() for stem in stems),
        files=lambda folder, part: files(folder, part=part),
        count=lambda folder, part: sum(map(size, files(folder, part=part))),
        read=lambda folder, part, _steps: read_cifar_folder(folder, classes, part, ending),
    )


def _nmnist_files(folder: Path, part: str) -> list[Path]:
    root = folder / NMNIST_FOLDERS[part]
    paths = [path for label in CLASSES for path in sorted((root / label).glob("*.bin"))]
    if not paths:
        raise Refusal(
            f"{root} has no recordings; N-MNIST has them in folders 0..9, ending in .bin; add some"
        )
    return paths


def _read_nmnist(folder: Path, part: str, steps: int) -> Split:
    paths = _nmnist_files(folder, part)
    first = by_count(read_nmnist(paths[0]), steps)
    x = np.empty((len(paths), *first.shape), first.dtype)
    for row, path in zip(x, paths, strict=True):  # a list of frames would hold the set twice
        row[...] = by_count(read_nmnist(path), steps)
    y = torch.tensor([int(path.parent.name) for path in paths])
    return Split(torch.from_numpy(x), y, 1.0)


LAYOUTS = {
    "idx": _idx_layout(),
    "cifar10-binary": _cifar_layout(10, ".bin"),
    "cifar10-python": _cifar_layout(10, ""),
    "cifar100-binary": _cifar_layout(100, ".bin"),
    "cifar100-python": _cifar_layout(100, ""),
    "nmnist": Layout(
        shows=lambda folder: any((folder / name).is_dir() for name in NMNIST_FOLDERS.values()),
        files=_nmnist_files,
        count=lambda folder, part: len(_nmnist_files(folder, part)),
        read=_read_nmnist,
    ),
}
_FOLDERS: dict[str, dict[str, tuple[str, ...]]] = {  # no class names: they are counted
    "idx": {"idx": ()},
    "cifar-binary": {"cifar10-binary": CIFAR10, "cifar100-binary": CIFAR100},
    "cifar-python": {"cifar10-python": CIFAR10, "cifar100-python": CIFAR100},
    "nmnist": {"nmnist": CLASSES},
}
FORMATS: dict[str, Callable[[Path], Content]] = {
    "idx": read_idx,
    "cifar-binary": lambda path: read_cifar_binary(path, cifar_kind(path)),
    "cifar-python": read_cifar_python,
    "npz": read_npz,
    "folder": read_folder,
    "nmnist": read_nmnist,
    "aedat": read_aedat,
}
