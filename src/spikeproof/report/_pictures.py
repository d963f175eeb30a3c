"""Adversarials as images: clean, perturbed, what changed, and what the network said."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from spikeproof.report._blocks import Example, Gallery, Note, Picture, Section
from spikeproof.report._read import Evaluation
from spikeproof.report._words import number

SHOWN = 12  # of images
FRAMES = 4  # examples of events, which have a picture for each step of time
STEPS = 8  # of these, spread over time
SIDE = 96  # pixels of a picture, about
STANDING = (176, 180, 186)
ADDED = (0, 114, 178)
REMOVED = (213, 94, 0)
MOVED = (204, 121, 167)
LEGEND = (("stays", STANDING), ("added", ADDED), ("removed", REMOVED), ("moved in time", MOVED))

Array = NDArray[Any]


@dataclass(frozen=True)
class Originals:
    """What adversarials were made of; ``said`` is what the network answers to each, if known."""

    x: Array
    labels: tuple[int, ...]
    said: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()  # their names

    def name(self, label: int) -> str:
        """Returns the name of a class."""
        return self.classes[label] if label < len(self.classes) else str(label)


# of an evaluation, from numbers in its data set and the adversarials that were made of them
Look = Callable[[Evaluation, Sequence[int], Array], Originals | None]


def picture_section(found: Evaluation, key: str, look: Look | None = None) -> Section | None:
    """Returns adversarials of an evaluation, beside the inputs that they were made of.

    These lie beside the record; where they do not, ``look`` finds them.
    """
    kept = found.values.get("artifacts") or {}
    if not kept.get("adversarials"):
        return None
    title, lead = "What breaks it", (
        "Samples that were right and fell, each as the first attack that broke it left it."
    )  # fmt: skip
    read = _read(found, kept["adversarials"], "x_adv")
    if isinstance(read, str):
        return Section(f"{key}-pictures", title, (Note(read),), lead)
    x_adv = dict(zip(*read[:2], strict=True))
    own = _beside(found, kept.get("originals"))
    events = read[1].ndim == 5
    among = [place for place in x_adv if place in own] or list(x_adv)
    chosen = _spread(among, found, FRAMES if events else SHOWN)
    indices, labels = (_numbers(found, name) for name in ("indices", "labels"))
    right, shown = tuple(labels[place] for place in chosen), np.stack([x_adv[p] for p in chosen])
    originals = _joined(own, chosen, right, kept) if own else None
    if originals is None and look:
        originals = look(found, [indices[p] for p in chosen], shown)
    if originals and (originals.labels != right or originals.x.shape != shown.shape):
        originals = None  # another set of the same name
    examples = tuple(
        _example(found, place, right[n], shown[n], originals, n) for n, place in enumerate(chosen)
    )
    missing = () if originals else (Note(
        "The clean inputs are not beside this record, so only the adversarials are shown; where "
        "the data set is found, clean inputs and differences are, too."
    ),)  # fmt: skip
    legend = tuple((f"rgb{c}", name) for name, c in LEGEND) if events and originals else ()
    count = f" {len(chosen)} of {len(x_adv)} are shown."
    return Section(f"{key}-pictures", title, (*missing, Gallery(examples, legend)), lead + count)


def _beside(found: Evaluation, kept: Any) -> dict[int, tuple[Array, int]]:
    """Returns clean inputs and answers that lie beside a record, if they do, by sample."""
    read = _read(found, kept, "x") if kept else ""
    if isinstance(read, str):
        return {}
    places, x, said = read
    return dict(zip(places, zip(x, said.tolist(), strict=True), strict=True))


def _joined(
    own: Mapping[int, tuple[Array, int]], chosen: Sequence[int], labels: tuple[int, ...], kept: Any
) -> Originals:
    x, said = zip(*(own[place] for place in chosen), strict=True)
    names = tuple(str(name) for name in kept["originals"].get("classes") or ())
    return Originals(np.stack(x), labels, said, names)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Returns pixels (H, W) or (H, W, 3) as a PNG file."""
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), pixels.reshape(height, -1).astype(np.uint8)], axis=1
    )  # each row begins with its filter, which is none

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _read(found: Evaluation, kept: Any, name: str) -> tuple[list[int], Array, Array] | str:
    """Returns the inputs of this name beside a record with their answers, or why there are none."""
    path = found.path.parent / str(kept.get("file", ""))
    if not path.is_file():
        return "The adversarials are not beside this record."
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != kept.get("sha256"):
            return "The file of adversarials is not the one that the record names; none is shown."
    try:
        tensors = load_file(path)
        places = tensors["places"].tolist()
        x = tensors[name].astype(np.float32)
        said = tensors.get("said", np.zeros(len(x), np.int64))
    except (KeyError, SafetensorError) as error:
        return f"The file of adversarials cannot be read ({type(error).__name__})."
    if x.ndim not in (4, 5) or x.shape[-3] not in (1, 2, 3):
        return f"Inputs of shape {list(x.shape[1:])} are no images."
    return places, x, said


def _numbers(found: Evaluation, name: str) -> list[int]:
    text = found.values["data"][name]
    return np.frombuffer(base64.b64decode(text), "<u4").tolist()


def _spread(places: Sequence[int], found: Evaluation, count: int) -> list[int]:
    """Returns some of the broken samples, of as many classes as there are."""
    labels = _numbers(found, "labels")
    rank: dict[int, int] = {}
    order = []
    for place in sorted(places):
        rank[labels[place]] = turn = rank.get(labels[place], -1) + 1
        order.append((turn, labels[place], place))
    return sorted(place for _, _, place in sorted(order)[:count])


def _example(
    found: Evaluation, place: int, label: int, x_adv: Array, originals: Originals | None, n: int
) -> Example:
    row = found.places.index(place)
    by = next((s.id for s in found.steps if s.counts and s.success[row]), "an attack")
    title = f"class {label}" if originals is None else originals.name(label)
    if originals is not None and originals.said is not None:
        title += f" → {originals.name(originals.said[n])}"
    x = None if originals is None else originals.x[n]
    size = "" if x is None else f", largest change {number(float(np.abs(x_adv - x).max()))}"
    make = _frames if x_adv.ndim == 4 else _images
    return Example(title, f"sample {place}, {by}{size}", make(x_adv, x, f"sample {place}"))


def _images(x_adv: Array, x: Array | None, name: str) -> tuple[Picture, ...]:
    top = max(1.0, float(x_adv.max()))
    if x is None:
        return (_picture(_pixels(x_adv / top), f"{name}, perturbed", "perturbed"),)
    change = x_adv - x
    gain = 0.5 / max(float(np.abs(change).max()), 1e-12)
    shown = (
        (x / top, "clean", "clean"),
        (x_adv / top, "perturbed", "perturbed"),
        (0.5 + gain * change, "difference", f"change \u00d7 {number(gain, 2)}"),
    )
    return tuple(_picture(_pixels(v), f"{name}, {alt}", said) for v, alt, said in shown)


def _frames(x_adv: Array, x: Array | None, name: str) -> tuple[Picture, ...]:
    """Returns steps of time side by side, both polarities put together."""
    times = np.unique(np.linspace(0, len(x_adv) - 1, STEPS).round().astype(int))
    pictures = []
    for t in times.tolist():
        pixels = _changes(x_adv, x, t)
        pictures.append(_picture(pixels, f"{name}, step {t + 1}", f"t = {t + 1}"))
    return tuple(pictures)


def _changes(x_adv: Array, x: Array | None, t: int) -> NDArray[np.uint8]:
    """Returns one step of time: what stays, was added, was removed, or came from another step."""
    before = x_adv if x is None else x
    pixels = np.full((*x_adv.shape[-2:], 3), 255, np.uint8)
    kept = x_adv.sum(0) == before.sum(0)  # as many events of that pixel, at other times
    came, went = x_adv[t] > before[t], x_adv[t] < before[t]
    for colour, mask in (
        (STANDING, (x_adv[t] > 0) & ~came),
        (REMOVED, went & ~kept),
        (ADDED, came & ~kept),
        (MOVED, came & kept),
    ):
        pixels[mask.any(0)] = colour
    return pixels


def _pixels(values: Array) -> NDArray[np.uint8]:
    bytes_ = (values.clip(0, 1) * 255).round().astype(np.uint8)
    if len(bytes_) == 3:
        return bytes_.transpose(1, 2, 0)
    if len(bytes_) == 1:
        return bytes_[0]
    empty = np.zeros_like(bytes_[:1])
    return np.concatenate([bytes_, empty]).transpose(1, 2, 0)


def _picture(pixels: NDArray[np.uint8], alt: str, name: str) -> Picture:
    height, width = pixels.shape[:2]
    scale = max(1, round(SIDE / max(height, width)))
    uri = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
    return Picture(uri, alt, name, width * scale, height * scale)
