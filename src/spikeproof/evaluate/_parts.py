"""Measurements of a diagnosis, chunk by chunk: what a killed one goes on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from spikeproof.errors import Refusal
from spikeproof.evaluate._intake import told
from spikeproof.evaluate._packing import packed, unpacked
from spikeproof.evaluate._runner import Progress, _out_of_memory
from spikeproof.records import read_json, write_json

FOLDER = "parts"
CHUNK = 16  # samples that are kept whole or not at all

T = TypeVar("T")


class Parts:
    """Finished chunks of every measurement: files in a folder, where there is one.

    ``notes`` tell what could not be measured, and why.
    """

    def __init__(
        self,
        out: Path | None,
        samples: int,
        steps: int,
        watch: Callable[[Progress], None] | None,
    ) -> None:
        self._folder = out / FOLDER if out else None
        self._samples, self._steps, self._watch = samples, steps, watch
        self.number = 0  # of the step that is measured
        self.notes: list[str] = []

    def of(
        self,
        name: str,
        kind: type[T],
        make: Callable[[Sequence[int]], T],
        *,
        most: int = 0,
        chunk: int = CHUNK,
    ) -> list[T]:
        """Returns what ``make`` measures of all samples, or of ``most``; nothing where it fails.

        A network of anybody's may raise anything; that costs it the measurement.
        """
        count = min(most, self._samples) if most else self._samples
        begun, found, fresh = time.monotonic(), list[T](), 0
        for start in range(0, count, chunk):
            places = range(start, min(start + chunk, count))
            path = self._folder and self._folder / f"{name.replace(' ', '-')}-{start:08d}.json"
            if path and path.exists():
                found.append(unpacked(kind, read_json(path)))
                continue
            try:
                made: Any = make(places)
            except Exception as error:
                if not isinstance(error, Refusal) and _out_of_memory(error):
                    raise
                self.notes.append(f"{name}: {told(error)}")
                return []
            found.append(made)
            if path:
                write_json(path, packed(asdict(made)))
            fresh += len(places)
            self._tell(name, places.stop, count, fresh / max(time.monotonic() - begun, 1e-9))
        return found

    def _tell(self, name: str, done: int, count: int, rate: float) -> None:
        if self._watch:
            self._watch(
                Progress(
                    step=name,
                    number=self.number,
                    steps=self._steps,
                    standing=count,
                    done=done,
                    of=count,
                    rate=rate,
                    left=(count - done) / rate,
                )
            )
