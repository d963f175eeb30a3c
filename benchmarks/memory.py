"""What a training step allocates at its peak, ours and a peer's: python -m benchmarks.memory.

PyTorch's profiler reports every block that its CPU allocator gives and takes back; the peak of
their sum, over what was there before the network was made, does not depend on the C library or on
what else the process holds. Weights, their gradients and momentum are in it.
"""

from __future__ import annotations

import argparse
import gc
import json
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks._rows import EAGER, LEAN, OURS, make
from benchmarks._timing import RESULTS, Values, record
from torch.profiler import ProfilerActivity, profile, record_function

from spikeproof import records


def peak(spec: Values) -> int:
    """Returns the most bytes that were allocated at once while a second step was made."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log:
        step, _ = make(spec)
        step()
        gc.collect()
        with record_function("second step"):
            step()
    events: Any = log.profiler.kineto_results.events()
    begin = next(event.start_ns() for event in events if event.name() == "second step")
    blocks = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = list(accumulate(size for _, size in blocks))
    return max(sum_ for (at, _), sum_ in zip(blocks, held, strict=True) if at >= begin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="vgg11")
    parser.add_argument("--kind", choices=("training", "pgd"), default="training")
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--times", nargs="+", type=int, default=[8], help="T")
    parser.add_argument("--rows", nargs="*", default=["spikingjelly"])
    parser.add_argument("--out", type=Path, default=RESULTS / "memory-cpu.json")
    given = parser.parse_args()
    shared = {"device": "cpu", "precision": "float32", "kind": given.kind, "net": given.net}
    kept: Values = record("memory", "cpu", settings=vars(given) | {"out": ""}) | {"rows": []}
    for batch in given.batches:
        for T in given.times:
            spec = shared | {"batch": batch, "T": T}
            names = ("ours", *LEAN, *given.rows)
            row = {name: peak(spec | (OURS | LEAN | EAGER)[name]) for name in names}
            ratios = {f"ours / {n}": round(row["ours"] / row[n], 4) for n in (*LEAN, *given.rows)}
            kept["rows"].append({"batch": batch, "T": T, "bytes": row} | ratios)
            print(json.dumps(kept["rows"][-1]), flush=True)
            records.write_json(given.out, kept)
