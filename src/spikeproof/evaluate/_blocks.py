"""Finished blocks of samples: what a killed evaluation goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeproof.errors import Refusal
from spikeproof.evaluate._artifacts import FILE, read_tensors, write_tensors
from spikeproof.records import LOCK, differences, digest, held, read_json, write_json

PROMISE = "promise.json"
BLOCKS = "blocks"


@dataclass(frozen=True)
class Block:
    """What one step did to some samples; every tuple has one entry for each of ``places``."""

    places: tuple[int, ...]  # in the manifest
    success: tuple[bool, ...]
    inadmissible: tuple[bool, ...]  # claimed, and the judge found it outside the threat
    unconfirmed: tuple[bool, ...]  # claimed, and the deployed model was not fooled
    infeasible: tuple[bool, ...]  # claimed, and no sensor delivers such events
    crashed: tuple[bool, ...]
    at: tuple[int, ...]  # the query that succeeded, counted from 1
    forwards: tuple[int, ...]
    backwards: tuple[int, ...]
    size: tuple[float, ...]  # of the perturbation that succeeded
    message: str = ""  # of the crash
    seconds: float = 0.0
    adversarials: str = ""  # SHA-256 of the file beside it, if there is one


class Blocks:
    """The finished blocks of every step: files in a folder, or memory where there is none.

    Adversarials lie beside them in the folder, and nowhere where there is none. A block whose
    adversarials are gone or changed is no finished one: it is dropped, and run again.
    """

    def __init__(self, folder: Path | None, *, adversarials: bool = True) -> None:
        self._folder = folder / BLOCKS if folder else None
        self.adversarials = adversarials and folder is not None
        self._kept: dict[int, list[Block]] = {}
        self._files: list[Path] = []
        for path in sorted(self._folder.glob("*.json")) if self._folder else ():
            block = _read(path)
            if file := self._file(path, block):
                self._files.append(file)
            elif block.adversarials:
                path.unlink()
                continue
            self._kept.setdefault(int(path.stem.split("-")[0]), []).append(block)

    def of(self, step: int) -> tuple[Block, ...]:
        """Returns the finished blocks of this step, in the order of their samples."""
        return tuple(sorted(self._kept.get(step, ()), key=lambda block: block.places[0]))

    @property
    def files(self) -> list[Path]:
        """Where the adversarials of finished blocks lie, once put together or not yet."""
        return [*dict.fromkeys(self._files)]

    def add(
        self, step: int, block: Block, broken: Sequence[int] = (), x_adv: Tensor | None = None
    ) -> None:
        """Keeps a finished block, and the adversarials of the samples that it broke first."""
        if self._folder:
            path = self._folder / f"{step:03d}-{block.places[0]:08d}.json"
            if self.adversarials and x_adv is not None and len(broken):
                file = path.with_suffix(".safetensors")
                write_tensors(file, broken, x_adv)
                block = replace(block, adversarials=digest(file))
                self._files.append(file)
            write_json(path, asdict(block))  # last: it says that the block is finished
        self._kept.setdefault(step, []).append(block)

    def _file(self, path: Path, block: Block) -> Path | None:
        """Returns where the adversarials of a block lie as they were written, if it has any."""
        beside, whole = path.with_suffix(".safetensors"), path.parents[1] / FILE
        if not block.adversarials:
            return None
        if beside.is_file():
            return beside if digest(beside) == block.adversarials else None
        broken = {place for place, hit in zip(block.places, block.success, strict=True) if hit}
        return whole if broken <= self._together else None

    @cached_property
    def _together(self) -> Set[int]:
        """The samples whose adversarials were put together in one file, when no record was."""
        try:
            return frozenset(read_tensors(self._folder.parent / FILE)[0] if self._folder else ())
        except Refusal:
            return frozenset()


def tidy(folder: Path) -> None:
    """Removes the adversarials of blocks, once they are put together in one file."""
    for path in (folder / BLOCKS).glob("*.safetensors"):
        path.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path, promise: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """Holds ``folder`` for this evaluation until the block or the process ends."""
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is a file; records need a folder; choose another --out")
    there = (folder / PROMISE).exists()
    if there and not resume:
        raise Refusal(
            f"{folder} already holds an evaluation; records are never overwritten; continue it "
            "with --resume or choose another --out"
        )
    if resume and not (folder / LOCK).exists():
        raise Refusal(
            f"{folder} holds no evaluation; there is nothing to resume; leave out --resume"
        )
    with held(folder):
        for part in (*folder.glob(".*.part"), *(folder / BLOCKS).glob(".*.part")):
            part.unlink()
        if there:
            _compare(folder, read_json(folder / PROMISE), json.loads(json.dumps(promise)))
        else:
            write_json(folder / PROMISE, promise)
        yield


def _compare(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for key, before, now in differences(old, new):
        raise Refusal(
            f"{key} was {before} when the evaluation in {folder} began and is {now} now; a resumed "
            "one keeps its model, data and suite; set it back or choose another --out"
        )


def _read(path: Path) -> Block:
    values: dict[str, Any] = read_json(path)
    if values.keys() != {field.name for field in fields(Block)}:
        raise Refusal(f"{path} is no block of an evaluation; remove it and resume: it is run again")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return Block(**values)
