"""Candidates in processes of their own, driven in turn.

A process each, so that the packages, the allocator and the threads of one candidate do not touch
another, and its peak of memory is its own. They step one at a time, in an order that rotates.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks._timing import Step, Values, timed

from spikeproof.spiking import keep_large_blocks

Make = Callable[[Values], tuple[Step, Values]]  # of a specification; what to time, and facts of it


def memory(key: str) -> int:
    """Returns a field of the process's memory in bytes; getrusage would inherit the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def interleaved(
    make: Make, specs: Mapping[str, Values], *, rounds: int, warmup: int = 2, limit: float = 600
) -> dict[str, Values]:
    """Returns for each specification its facts, its seconds round by round, and its peak of memory.

    One that cannot be made, dies, or needs more than ``limit`` seconds for a step, compilation
    included, is a row with an ``error`` and no seconds.
    """
    rows: dict[str, Values] = {name: {} for name in specs}
    running = {}
    try:
        for name, spec in specs.items():
            running[name] = _Candidate(make, spec, limit)
            rows[name].update(running[name].ask(None))
            for _ in range(warmup):
                if "error" not in rows[name]:
                    rows[name].update(running[name].ask("step"))
        for turn in range(rounds):
            alive = [name for name in specs if "error" not in rows[name]]
            for name in alive[turn % len(alive) :] + alive[: turn % len(alive)] if alive else ():
                time.sleep(0.05)  # until the threads of the one before have stopped spinning
                answer = running[name].ask("step")
                rows[name].setdefault("seconds", []).append(answer.pop("last", 0.0))
                rows[name].update(answer)
        for name, row in rows.items():
            row.pop("last", None)
            if "error" in row:
                row.pop("seconds", None)
            else:
                row.update(running[name].ask("end"))
    finally:
        for candidate in running.values():
            candidate.end()
    return rows


class _Candidate:
    def __init__(self, make: Make, spec: Values, limit: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.limit = limit
        self.process = context.Process(target=_serve, args=(theirs, make, spec), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, what: str | None) -> Values:
        try:
            if what is not None:
                self.pipe.send(what)
            if not self.pipe.poll(self.limit):
                return {"error": f"not done within {self.limit:.0f} s"}
            return self.pipe.recv()
        except (EOFError, OSError):
            return {"error": "its process died"}

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Any, make: Make, spec: Values) -> None:
    device = spec.get("device", "cpu")
    try:
        kept = spec.get("allocator") == "kept" and keep_large_blocks()
        sys.path[:0] = spec.get("path", [])
        step, facts = make(spec)
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # what making it took is no part of its peak
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
        before = torch.cuda.memory_allocated() if device == "cuda" else memory("VmRSS")
        facts |= {"before": before, "large_blocks_kept": kept}
        pipe.send(facts)
        while pipe.recv() == "step":
            pipe.send({"last": timed(step, device)})
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else memory("VmHWM")
        pipe.send({"peak": peak})
    except ModuleNotFoundError as error:
        pipe.send({"error": f"not installed: {error.name}"})
    except Exception as error:  # noqa: BLE001  whatever a peer raises is its row
        pipe.send({"error": f"{type(error).__name__}: {error}"[:300]})
