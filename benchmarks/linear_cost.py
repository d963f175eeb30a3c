"""How cost grows with T, batch and width: python -m benchmarks.linear_cost [--device cuda].

One knob moves, the others stay. ``exponent`` is the slope of log seconds against log size: 1 where
cost is proportional, less where a fixed part is still felt. The multiply-adds of convolutions grow
with the square of the width, so the width has a second exponent, against them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from benchmarks._candidates import interleaved
from benchmarks._rows import PGD_STEPS, make
from benchmarks._timing import RESULTS, Values, exponent, quartiles, record

from spikeproof import records

KNOBS = {"T": (2, 4, 8, 16, 32), "batch": (8, 16, 32, 64, 128), "width": (0.25, 0.5, 1, 2, 4)}
QUICK = {"T": (1, 2), "batch": (1, 2), "width": (0.0625, 0.125)}


def points(spec: Values, knob: str, sizes: list[float], rounds: int) -> Values:
    """Returns the points of a knob, and the exponents of its cost."""
    specs = {str(size): spec | {knob: size} for size in sizes}
    found = interleaved(make, specs, rounds=rounds)
    if errors := [row["error"] for row in found.values() if "error" in row]:
        return {"error": errors[0]}
    seconds = {size: quartiles(found[str(size)]["seconds"]) for size in sizes}
    medians = [seconds[size]["median"] for size in sizes]
    work = [found[str(size)]["multiply_adds"] for size in sizes]
    rows = [
        {knob: size, "seconds": seconds[size], "multiply_adds": operations}
        for size, operations in zip(sizes, work, strict=True)
    ]
    half = (len(sizes) - 1) // 2
    return {
        "points": rows,
        "exponent": exponent(sizes, medians),
        "exponent of the larger half": exponent(sizes[half:], medians[half:]),
        "exponent against multiply-adds": exponent(work, medians),
    }


def helping() -> float:
    """Returns the seconds of ``spikeproof --help``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "spikeproof", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--net", default="small")
    parser.add_argument("--kinds", nargs="+", default=["training", "pgd"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, default=5, help="how many sizes of each knob, 2 to 5")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="the record")
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.sizes, given.batch, given.width = 1, 2, 2, 0.125
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; nothing is measured")
    kept = record("linear_cost", given.device, settings=vars(given) | {"out": ""})
    kept |= {"pgd_steps": PGD_STEPS, "curves": {}, "ratios": {}}
    kept["seconds_of_help"] = quartiles([helping() for _ in range(given.rounds)])
    for kind in given.kinds:
        spec = {"net": given.net, "kind": kind, "T": 4, "batch": given.batch}
        spec |= {"width": given.width, "device": given.device, "precision": given.precision}
        for knob, sizes in (QUICK if given.quick else KNOBS).items():
            name = f"{kind} {given.net} against {knob}"
            curve = points(spec, knob, list(sizes[: given.sizes]), given.rounds)
            kept["curves"][name] = curve
            if "exponent" in curve:
                kept["ratios"][f"exponent of {name}"] = curve["exponent"]
            print(name, {key: value for key, value in curve.items() if key != "points"}, flush=True)
    print("spikeproof --help", kept["seconds_of_help"])
    if given.out or not given.quick:
        records.write_json(given.out or RESULTS / f"linear-cost-{given.device}.json", kept)
