"""What the benchmarks share: medians of pairs, the clock, ceilings, and the frame of a record."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from spikeproof import records

RESULTS = Path(__file__).parent / "results"
PEERS = ("spikingjelly", "snntorch", "norse", "torchattacks", "pyautoattack")
Values = dict[str, Any]
Step = Callable[[], object]


def quartiles(values: Sequence[float]) -> Values:
    """Returns median and quartiles, four digits each."""
    cuts = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {key: float(f"{cut:.4g}") for key, cut in zip(("q1", "median", "q3"), cuts, strict=True)}


def paired(rows: Mapping[str, Values], base: str) -> dict[str, Values]:
    """Returns for each row its quartiles, and those of ``base`` in units of it, round by round."""
    out = {}
    for name, row in rows.items():
        out[name] = dict(row)
        if "seconds" not in row:
            continue
        out[name]["seconds"] = quartiles(row["seconds"])
        if "seconds" in rows.get(base, {}):
            pairs = zip(rows[base]["seconds"], row["seconds"], strict=True)
            out[name][f"{base} / this"] = quartiles([own / other for own, other in pairs])
    return out


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Returns the slope of log seconds against log size: 1 where cost grows in proportion."""
    logs = [torch.tensor(values, dtype=torch.float64).log() for values in (sizes, seconds)]
    x, y = (values - values.mean() for values in logs)
    return round(float((x @ y) / (x @ x)), 3)


def timed(step: Step, device: str) -> float:
    """Returns the seconds of one step, on a GPU those between two of its events."""
    if device != "cuda":
        began = time.perf_counter()
        step()
        return time.perf_counter() - began
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    step()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / 1000


def ceilings(device: str) -> Values:
    """Returns what the device can do: bytes a second copied, operations a second in a product."""
    large, side = torch.ones(1 << 26, device=device), 2048 if device == "cpu" else 8192
    into, left = torch.empty_like(large), torch.ones(side, side, device=device)
    copies, products = (
        sorted(timed(step, device) for _ in range(9))[4]
        for step in (lambda: into.copy_(large), lambda: left @ left)
    )
    return {
        "copied": round(2 * 4 * large.numel() / copies),
        "product": round(2 * side**3 / products),
    }


def environment(device: str) -> Values:
    """Returns what the figures depend on; a load beside our own makes them doubtful."""
    versions = {}
    for name in PEERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return records.environment() | {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "peers": versions,
    }


def record(kind: str, device: str, **values: Any) -> Values:
    """Returns the frame of a record."""
    frame = {"schema": records.SCHEMA, "kind": kind, "environment": environment(device)}
    return frame | {"ceilings": ceilings(device)} | values
