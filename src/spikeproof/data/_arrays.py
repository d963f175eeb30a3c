"""Sets that users bring as ``.npz`` archives of plain arrays."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from spikeproof.data._files import file_size
from spikeproof.data._sets import Dataset, Split, held_out, three_ways
from spikeproof.errors import Refusal

RATIO = 200  # sparse event counts pack by about 100; a bomb by 1000 and more
ALWAYS_FINE = 1 << 28
HEADER = re.compile(
    rb"\{\s*'descr'\s*:\s*'([^']{1,40})'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,"
    rb"\s*'shape'\s*:\s*\(((?:\s*\d{1,18}\s*,?){0,32})\)\s*,?\s*\}\s*"
)
REMEDY = "save plain arrays with numpy.savez_compressed"


def read_npz(path: Path, *, validation: float = 0.1, seed: int = 0) -> Dataset:
    """Returns the set in an archive of ``x_train, y_train, x_test, y_test``, or of ``x, y``.

    Images are ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, H, W, C)`` with one or three channels,
    uint8 or floats in [0, 1]; event counts are ``(N, T, C, H, W)``.
    """
    arrays = _read_arrays(path)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        whole = to_split(path, arrays["x_train"], arrays["y_train"])
        test = to_split(path, arrays["x_test"], arrays["y_test"])
        train, held = held_out(whole, validation, seed=seed)
    elif {"x", "y"} <= arrays.keys():
        whole = to_split(path, arrays["x"], arrays["y"])
        train, held, test = three_ways(whole, validation, seed)
    else:
        raise Refusal(
            f"{path} holds {', '.join(arrays) or 'nothing'}; a set is x_train, y_train, x_test and "
            "y_test, or x and y; rename the arrays"
        )
    return Dataset(path.stem, train, held, test, numbered(path, whole))


def numbered(path: Path, split: Split) -> tuple[str, ...]:
    """Returns the classes of a set that does not name them; each must occur in ``split``."""
    found = split.y.unique()
    if len(found) != (top := int(split.y.max())) + 1:
        raise Refusal(
            f"{path} has {len(found)} different labels up to {top}; labels are 0..K-1 and each "
            "occurs; renumber them"
        )
    return tuple(str(label) for label in range(len(found)))


def to_split(path: Path, x: np.ndarray, y: np.ndarray) -> Split:
    """Returns arrays as samples, with the channel axis where it belongs."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        x = np.moveaxis(x, -1, 1)
    if y.dtype.kind not in "iu":
        raise Refusal(f"{path} has labels of type {y.dtype}; they are integers; convert them")
    pixels = torch.from_numpy(np.ascontiguousarray(_as_pixels(path, x)))
    scale = 1 / 255 if x.dtype == np.uint8 and x.ndim == 4 else 1.0
    try:
        return Split(pixels, torch.from_numpy(y.astype(np.int64)), scale)
    except Refusal as error:
        raise Refusal(f"{path}: {error}") from None


def _as_pixels(path: Path, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return x.astype(np.float32)
    if x.dtype == np.uint8:
        return x
    if x.ndim == 5 and x.size and x.min() >= 0 and x.max() <= 255:
        return x.astype(np.uint8)
    raise Refusal(
        f"{path} has samples of type {x.dtype} and shape {x.shape}; images are uint8 or floats in "
        "0..1, event counts integers in 0..255; convert them"
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    size = file_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > max(RATIO * size, ALWAYS_FINE):
                raise Refusal(
                    f"{path} would unpack {size} bytes to {total}; up to {RATIO} times is read; "
                    "save it uncompressed with numpy.savez"
                )
            found = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in found:
                    raise Refusal(f"{path} holds {name!r} twice; {REMEDY}")
                with archive.open(member) as file:
                    found[name] = _read_array(
                        f"{path}:{name}", cast("BufferedIOBase", file), member.file_size
                    )
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise _damaged(path, error) from None
    except (NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> Refusal:
    return Refusal(f"{path} is no archive that can be read: {error}; {REMEDY}")


def _read_array(name: str, file: BufferedIOBase, size: int) -> np.ndarray:
    # numpy's own reader evaluates the header and allocates what it promises before looking
    start = file.read(12)
    wide = start[6:8] == b"\2\0"
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\1\0", b"\2\0"):
        raise Refusal(f"{name} is no array of numpy, it starts with {start[:8].hex()}; {REMEDY}")
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    header = start[12 if wide else 10 :] + file.read(max(0, min(length, 1000) - (0 if wide else 2)))
    match = HEADER.fullmatch(header) if len(header) == length else None
    dtype = match[1].decode("latin-1") if match else "no plain header"
    if match is None or not re.fullmatch("[<>|=](b1|[iu][1248]|f[248])", dtype, re.ASCII):
        raise Refusal(f"{name} holds {dtype!a}; only arrays of numbers are read; {REMEDY}")
    shape = tuple(int(side) for side in match[3].split(b",") if side.strip())
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    left = size - length - (12 if wide else 10)
    if expected != left:
        raise Refusal(f"{name} promises {shape} of {dtype} and holds {left} bytes; {REMEDY}")
    data = file.read()
    if len(data) != expected:
        raise Refusal(f"{name} ends after {len(data)} of {expected} bytes; take a complete copy")
    order: Literal["F", "C"] = "F" if match[2] == b"True" else "C"
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy()
