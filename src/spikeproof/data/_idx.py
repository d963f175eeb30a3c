"""IDX files, plain or gzipped: the format of MNIST and its family."""

from __future__ import annotations

import gzip
import math
import struct
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch

from spikeproof.data._files import DEFLATE_RATIO, file_size, read_packed, unpack
from spikeproof.data._sets import Split
from spikeproof.errors import Refusal

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
FILES = {
    "train": ("train-images", "train-labels"),
    "test": ("t10k-images", "t10k-labels"),
}
RANKS = {"images": 3, "labels": 1}


def read_idx(path: Path) -> np.ndarray:
    """Returns the array that an IDX file holds."""
    size = file_size(path)
    with _opened(path) as file:
        dtype, shape, header = _header(path, file)
        count = math.prod(shape) * dtype.itemsize
        most = DEFLATE_RATIO * size if isinstance(file, gzip.GzipFile) else size - header
        if not 0 < count <= most:
            raise Refusal(
                f"{path} promises an array of shape {shape}, {count} bytes, in a file of {size} "
                "bytes; it must hold what it promises; take a complete copy"
            )
        data = read_packed(path, file, count)
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def idx_count(path: Path) -> int:
    """Returns how many items the header of an IDX file promises."""
    file_size(path)
    with _opened(path) as file:
        return _header(path, file)[1][0]


def idx_file(folder: Path, stem: str) -> Path:
    """Returns the file of this stem in either spelling, gzipped or not."""
    rank = RANKS[stem.rsplit("-", 1)[1]]
    names = [f"{stem}{dot}idx{rank}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise Refusal(f"{folder} has no {names[0]}; four IDX files make a set; add it, gzipped or not")


def read_idx_pair(folder: Path, part: str) -> Split:
    """Returns the images and labels of ``train`` or ``test`` in a folder of four IDX files."""
    image_path, label_path = (idx_file(folder, stem) for stem in FILES[part])
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise Refusal(
            f"{image_path} holds {images.dtype} of shape {images.shape}; images are uint8 "
            "(N, H, W); choose the file of images"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise Refusal(
            f"{label_path} holds {labels.dtype} labels of shape {labels.shape} for "
            f"{len(images)} images; each image needs one uint8 label; take the files of one set"
        )
    x = torch.from_numpy(images)[:, None]
    return Split(x, torch.from_numpy(labels.astype(np.int64)), 1 / 255)


def _opened(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path)
    return path.open("rb")


def _header(path: Path, file: BufferedIOBase) -> tuple[np.dtype, tuple[int, ...], int]:
    magic = unpack(path, file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not magic[3]:
        raise Refusal(
            f"{path} starts with {magic.hex() or 'nothing'}; an IDX file starts with 0000, a type "
            "and a rank; check that it is one"
        )
    raw = unpack(path, file, 4 * magic[3])
    if len(raw) < 4 * magic[3]:
        raise Refusal(f"{path} ends within its header; take a complete copy")
    return np.dtype(DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", raw), 4 + len(raw)
