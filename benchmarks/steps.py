"""Training and PGD steps beside those of the peers: python -m benchmarks.steps [--device cuda].

Each row is one step of the same network on the same batch: ours as ``training`` and ``attacks``
make it, peers as a user writes it (PGD by torchattacks). ``floor`` is its convolutions and linears
alone, each in its faster layout. Every comparison is made with an allocator as it comes, and again
with one that keeps large blocks; ``--as-it-comes`` sets peers as they come beside ours that keeps
them, as our commands do. ``ours / X`` is ours in units of X, round by round.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import torch
from benchmarks._candidates import interleaved
from benchmarks._rows import ADAPTIVE, COMPILED, EAGER, HUNGRY, OURS, PGD_STEPS, make
from benchmarks._timing import RESULTS, Values, paired, record

from spikeproof import records

AS_IT_COMES = ", as it comes"


def compare(
    spec: Values, rounds: int, limit: float, only: list[str], *, compiled: bool = True
) -> Values:
    """Returns the rows of one comparison, and what ours takes of each."""
    rows = OURS | EAGER | (COMPILED if compiled else {})
    rows |= ADAPTIVE if spec["kind"] == "pgd" else {}
    specs = {name: spec | row for name, row in rows.items() if not only or name in only}
    if spec.get("as_it_comes") and spec["allocator"] == "kept":
        peers = {name: row for name, row in specs.items() if "peer" in row}
        specs |= {name + AS_IT_COMES: row | {"allocator": "system"} for name, row in peers.items()}
    found = paired(interleaved(make, specs, rounds=rounds, limit=limit), "ours")
    for row in found.values():
        if "seconds" in row:
            times = spec["batch"] * (PGD_STEPS if spec["kind"] == "pgd" else 1)
            row["images_per_second"] = round(times / row["seconds"]["median"], 2)
    return found


def ratios(name: str, rows: Values) -> Values:
    """Returns the ratios of a comparison, in all of which less is better."""
    own = {n: row["ours / this"]["median"] for n, row in rows.items() if "ours / this" in row}
    out = {f"{name}: ours / {other}": ratio for other, ratio in own.items() if other != "ours"}
    as_they_come = [other for other in own if other.endswith(AS_IT_COMES)]
    groups = {"eager": EAGER, "compiled": COMPILED, "as it comes": as_they_come}
    for title, group in groups.items():
        if alike := [own[other] for other in group if other in own]:
            out[f"{name}: ours / the fastest {title}"] = max(alike)
    if (adaptive := out.pop(f"{name}: ours / ours through ASSG", 0)) > 0:
        out[f"{name}: ASSG / ours"] = round(1 / adaptive, 4)
    return out


def peaks(spec: Values, only: list[str], limit: float) -> Values:
    """Returns what a training step holds at its peak, a fresh process each."""
    rows = {name: (OURS | EAGER)[name] for name in HUNGRY if not only or name in only}
    each = [interleaved(make, {n: spec | row}, rounds=1, limit=limit) for n, row in rows.items()]
    found = {name: row for part in each for name, row in part.items()}
    for row in found.values():
        row.pop("seconds", None)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--nets", nargs="+", default=["small", "vgg11"])
    parser.add_argument("--kinds", nargs="*", default=["training", "pgd"])
    parser.add_argument("--times", nargs="+", type=int, default=[4, 8], help="T")
    parser.add_argument("--batch", type=int, default=0, help="0 for 32, of vgg11 8; GPU: 256")
    parser.add_argument("--allocators", nargs="+", default=["system", "kept"])
    parser.add_argument("--as-it-comes", action="store_true", help="peers so, beside ours kept")
    parser.add_argument("--rows", nargs="+", default=[], help="some rows only")
    parser.add_argument("--compiled", nargs="*", type=int, default=[4], help="T of compiled rows")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one step")
    parser.add_argument("--memory-batch", type=int, default=32, help="0 to leave memory out")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="the record")
    parser.add_argument("--again", action="store_true", help="the record keeps its other rows")
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    given = parser.parse_args()
    if given.quick:
        given.nets, given.times, given.allocators, given.batch = ["small"], [2], ["kept"], 2
        given.rows, given.rounds, given.memory_batch, given.width = ["ours", "plain"], 1, 0, 0.125
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; nothing is measured")
    sizes = {"small": 32, "vgg11": 8} if given.device == "cpu" else {}
    allocators = given.allocators if given.device == "cpu" else ["system"]
    shared = {"device": given.device, "precision": given.precision, "width": given.width}
    shared |= {"as_it_comes": given.as_it_comes}
    kept: Values = record("steps", given.device, settings=vars(given) | {"out": ""})
    kept |= {"whole": False, "comparisons": {}, "memory": {}, "ratios": {}}
    path = given.out or (None if given.quick else RESULTS / f"steps-{given.device}.json")
    if given.again and path is not None:
        old = records.read_json(path)
        kept = old | {
            "again": [*old.get("again", []), {n: kept[n] for n in ("settings", "environment")}]
        }

    for net, kind, T, allocator in product(given.nets, given.kinds, given.times, allocators):
        spec = shared | {"net": net, "kind": kind, "T": T, "allocator": allocator}
        spec["batch"] = given.batch or sizes.get(net, 256)
        name = f"{kind} {net} T={T} {allocator} allocator"
        compiled = T in given.compiled
        rows = compare(spec, given.rounds, given.limit, given.rows, compiled=compiled)
        kept["comparisons"][name] = {"batch": spec["batch"], "rows": rows}
        kept["ratios"] |= ratios(name, rows)
        if path is not None:
            records.write_json(path, kept)  # what was measured outlives a kill
        for ratio, value in ratios(name, rows).items():
            print(f"{ratio} {value:.3f}", flush=True)
    for allocator in allocators if given.memory_batch else ():
        spec = shared | {"net": given.nets[-1], "kind": "training", "T": given.times[-1]}
        spec |= {"batch": given.memory_batch, "allocator": allocator}
        name = f"memory {spec['net']} T={spec['T']} {allocator} allocator"
        rows = peaks(spec, given.rows, given.limit)
        kept["memory"][name] = {"batch": spec["batch"], "rows": rows}
        for other in HUNGRY[1:]:
            if "peak" in rows.get(other, {}) and "peak" in rows.get("ours", {}):
                ratio = round(rows["ours"]["peak"] / rows[other]["peak"], 4)
                kept["ratios"][f"{name}: ours / {other}"] = ratio
                print(f"{name}: ours / {other} {ratio:.3f}")
    if path is not None:
        records.write_json(path, kept | {"whole": True})
