"""Test samples as plain arrays, read without torch: IDX, CIFAR's binary records, npz archives.

``spikeproof.data`` reads more, and gives tensors; this is what a device without torch needs.
"""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikeproof.errors import Refusal

IMAGES, LABELS = "t10k-images", "t10k-labels"
CIFAR = {"cifar10": ("cifar-10-batches-bin", "cifar10"), "cifar100": ("cifar-100-binary",)}
IDX = {
    "mnist": ("mnist", "MNIST/raw", "MNIST"),
    "fashion-mnist": ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
}
PIXELS = 3 * 32 * 32
MOST_BYTES = 1 << 32
ARCHIVE = (zipfile.BadZipFile, zlib.error)
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Samples:
    """Images (N, C, H, W) or event frames (N, T, C, H, W), and their labels."""

    x: Array
    y: Array
    scale: float

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, first: int, last: int) -> tuple[Array, Array]:
        """Returns samples as float32, scaled, and their labels."""
        return self.x[first:last].astype(np.float32) * np.float32(self.scale), self.y[first:last]


def can_read(name: str) -> bool:
    """Tells whether a set of this name is one that is read here."""
    return name in IDX or name in CIFAR or name.endswith(".npz")


def read_samples(name: str, root: Path) -> Samples:
    """Returns the test samples of a named set under ``root``, or of an npz archive."""
    try:
        if name.endswith(".npz"):
            return _npz(Path(name))
        folders = [root / folder for folder in (IDX | CIFAR).get(name, ())]
        found = next((folder for folder in [*folders, root] if _holds(folder, name)), None)
        if found is None:
            raise Refusal(
                f"{root} has no test samples of {name}; its folder is called "
                f"{' or '.join(f.name for f in folders) or name}; unpack the published files there"
            )
        return _idx_pair(found) if name in IDX else _cifar(found, name)
    except (EOFError, ValueError, KeyError, struct.error, *ARCHIVE) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(
            f"{name}: its files cannot be read ({error}); they must be as published; "
            "take complete copies"
        ) from None


def _holds(folder: Path, name: str) -> bool:
    if name in CIFAR:
        return (folder / _cifar_file(name)).is_file()
    return _idx_path(folder, IMAGES) is not None


def _cifar_file(name: str) -> str:
    return "test_batch.bin" if name == "cifar10" else "test.bin"


def _cifar(folder: Path, name: str) -> Samples:
    labels = 1 if name == "cifar10" else 2
    data = np.frombuffer((folder / _cifar_file(name)).read_bytes(), np.uint8)
    if not data.size or data.size % (PIXELS + labels):
        raise Refusal(
            f"{folder / _cifar_file(name)} has {data.size} bytes; records of {name} have "
            f"{PIXELS + labels}, and a file holds whole ones; take a complete copy"
        )
    rows = data.reshape(-1, PIXELS + labels)
    x = rows[:, labels:].reshape(-1, 3, 32, 32)
    return Samples(x, rows[:, labels - 1].astype(np.int64), 1 / 255)


def _idx_path(folder: Path, stem: str) -> Path | None:
    rank = 3 if "images" in stem else 1
    names = [f"{stem}{dot}idx{rank}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _idx_pair(folder: Path) -> Samples:
    paths = [_idx_path(folder, stem) for stem in (IMAGES, LABELS)]
    images, labels = (_idx(path) for path in paths if path is not None)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise Refusal(
            f"{folder} holds images {images.shape} and labels {labels.shape}; each image needs "
            "one label; take the files of one set"
        )
    return Samples(images[:, None], labels.astype(np.int64), 1 / 255)


def _idx(path: Path) -> Array:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        start = file.read(4)
        if start[:3] != b"\0\0\x08" or len(start) < 4:
            raise Refusal(f"{path} starts with {start.hex()}; bytes in IDX start with 000008")
        shape = struct.unpack(f">{start[3]}I", file.read(4 * start[3]))
        size = math.prod(shape)
        data = file.read(min(size, MOST_BYTES) + 1)
    if len(data) != size:
        raise Refusal(f"{path} promises {size} bytes and holds others; take a complete copy")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _npz(path: Path) -> Samples:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not {"x_test", "y_test"} <= set(archive.files):
            raise Refusal(
                f"{path} holds {', '.join(archive.files) or 'nothing'}; test samples are x_test "
                "and y_test; rename the arrays"
            )
        x, y = archive["x_test"], archive["y_test"]
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        x = np.moveaxis(x, -1, 1)
    if x.ndim not in (4, 5) or y.shape != x.shape[:1] or x.dtype.kind not in "uif":
        raise Refusal(
            f"{path} holds samples {x.dtype} {x.shape} with labels {y.shape}; images are (N, C, H, "
            "W) and event frames (N, T, C, H, W), each with one label; add the missing axis"
        )
    bytes_of_images = x.dtype == np.uint8 and x.ndim == 4
    return Samples(x, y.astype(np.int64), 1 / 255 if bytes_of_images else 1.0)
