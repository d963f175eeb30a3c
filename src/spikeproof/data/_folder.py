"""Sets that users bring as folders of pictures, one folder a class."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from spikeproof.data._files import file_size
from spikeproof.data._sets import Dataset, Split, held_out, three_ways
from spikeproof.errors import Refusal

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp"}
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")  # Pillow knows others that start programs
GREY = {"1", "L", "LA"}
COLOUR = {"P", "RGB", "RGBA", "CMYK", "YCbCr"}
MOST_PIXELS = 1 << 26  # of one picture
MOST_BYTES = 1 << 34  # of a split, which is held in memory


def read_folder(
    root: Path, *, size: tuple[int, int] | None = None, validation: float = 0.1, seed: int = 0
) -> Dataset:
    """Returns the set in ``root/{train,test}/<class>/*.png``, or in ``root/<class>/*.png``.

    With ``size``, height and width, every picture is resized; without it all must be of one size.
    """
    image = _pillow()
    if size is not None and min(size) < 1:
        raise Refusal(f"size is {size}; it is a height and a width of 1 or more; try (32, 32)")
    parts = [root / "train", root / "test"]
    if not all(part.is_dir() for part in parts):
        parts = [root]
    classes = _classes(parts[0])
    listed = [_pictures(part, classes) for part in parts]
    sizes, mode = _survey(image, [path for files in listed for path, _ in files])
    if size is None and len(sizes) > 1:
        found = sorted(sizes)
        raise Refusal(
            f"{root} has pictures of {found[0]} and {found[1]} pixels (height, width); a set has "
            "one size; give a size to resize them to"
        )
    size = size or next(iter(sizes))
    splits = [_load(image, files, mode, size) for files in listed]
    if len(splits) == 2:
        return Dataset(root.name, *held_out(splits[0], validation, seed=seed), splits[1], classes)
    return Dataset(root.name, *three_ways(splits[0], validation, seed), classes)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise Refusal(
            "folders of pictures need Pillow, which is not installed; it comes with an extra; "
            "run: pip install 'spikeproof[images]'"
        ) from None
    return Image


def _classes(part: Path) -> tuple[str, ...]:
    if not part.is_dir():
        raise Refusal(f"{part} is no folder; pictures lie in one folder a class; check the path")
    names = sorted(
        path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        raise Refusal(
            f"{part} has {len(names)} folders; there must be one for each of two or more classes; "
            "sort the pictures into folders"
        )
    return tuple(names)


def _pictures(part: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    if (found := _classes(part)) != classes:
        odd = sorted(set(found) ^ set(classes))[0]
        raise Refusal(
            f"the class {odd!r} is missing in train or test; {part.parent} needs the same folders "
            "in both; add or remove it"
        )
    pictures = []
    for label, name in enumerate(classes):
        paths = sorted(
            path
            for path in (part / name).iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not paths:
            raise Refusal(
                f"{part / name} has no picture; each class needs one, ending in "
                f"{', '.join(sorted(SUFFIXES))}; add some or remove the folder"
            )
        pictures += [(path, label) for path in paths]
    return pictures


def _survey(image: ModuleType, paths: list[Path]) -> tuple[set[tuple[int, int]], str]:
    sizes, modes = set(), set()
    for path in paths:
        with _opened(image, path) as picture:
            sizes.add((picture.height, picture.width))
            modes.add(picture.mode)
    return sizes, "L" if modes <= GREY else "RGB"


def _load(
    image: ModuleType, files: list[tuple[Path, int]], mode: str, size: tuple[int, int]
) -> Split:
    shape = (len(files), *size, len(mode) if mode == "RGB" else 1)
    if math.prod(shape) > MOST_BYTES:
        raise Refusal(
            f"{len(files)} pictures of {size} pixels need {math.prod(shape) >> 30} GiB; up to "
            f"{MOST_BYTES >> 30} are held in memory; give a smaller size"
        )
    x = np.empty(shape, np.uint8)
    for row, (path, _) in zip(x, files, strict=True):
        with _opened(image, path) as picture:
            plain = picture.convert(mode)
            if (plain.height, plain.width) != size:
                plain = plain.resize(size[::-1], image.Resampling.BILINEAR)
            row[...] = np.asarray(plain).reshape(row.shape)
    y = torch.tensor([label for _, label in files])
    return Split(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))), y, 1 / 255)


@contextmanager
def _opened(image: ModuleType, path: Path) -> Iterator[Any]:
    file_size(path)
    damaged = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
    bomb = (image.DecompressionBombError, image.DecompressionBombWarning)
    try:
        with image.open(path, formats=FORMATS) as picture:
            if picture.height * picture.width > MOST_PIXELS:
                raise Refusal(
                    f"{path} has {picture.height} x {picture.width} pixels; up to {MOST_PIXELS} "
                    "are read; make it smaller"
                )
            if picture.mode not in GREY | COLOUR:
                raise Refusal(
                    f"{path} has pixels of type {picture.mode}; grey and colour of 8 bits are "
                    "read; convert it"
                )
            yield picture
    except Refusal:
        raise
    except bomb as error:
        raise Refusal(f"{path} is too large a picture: {error}; make it smaller") from None
    except damaged as error:
        raise Refusal(
            f"{path} is no picture that can be read: {error}; it must be a whole "
            f"{', '.join(FORMATS)} file; take a complete copy"
        ) from None
