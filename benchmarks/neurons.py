"""Layers of LIF neurons against the memory's own speed and other people's: benchmarks/neurons.py.

Every contender lives in a process of its own, with the C library's allocator as it comes or told
to keep large blocks. The processes take turns, one forward and backward pass each, so that
whatever else the machine does meets them all alike; times are processor seconds, and medians over
the turns. A peer that is not installed, or not in a folder given as NAME=FOLDER, is left out.

``stream`` is the floor: the bytes that cannot be avoided, moved through existing buffers. Forward
reads the currents and writes the spikes; backward reads what was kept and the gradient of the
spikes, and writes the gradient of the currents. PyTorch's stores also read what they overwrite, so
a contender that writes past the caches can be faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from benchmarks._timing import RESULTS, environment
from torch import Tensor

from spikeproof import records
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    HART,
    PDSG,
    RGA,
    ATan,
    Sigmoid,
    Triangle,
    integrate_and_fire,
    keep_large_blocks,
    kernel,
)

WARM_UP = 8
SHAPE, SMALL = (32, 64, 32, 32), (2, 4, 8, 8)
RULES = {
    "ours": BPTT(ATan()),
    "ours triangle": BPTT(Triangle()),
    "ours sigmoid": BPTT(Sigmoid()),
    "ours assg": ASSG(),
    "ours pdsg": PDSG(),
    "ours hart": HART(ATan()),
    "ours bptr": BPTR(),
    "ours rga": RGA(),
}
EAGER = ("loop", "spikingjelly 0", "spikingjelly 2", "snntorch")
COMPILED = ("loop compiled", "spikingjelly 2 compiled", "snntorch compiled")
PACKAGES = {"spikingjelly 0": "spikingjelly", "spikingjelly 2": "spikingjelly"}
Layer = Callable[[Tensor], Tensor]


class _ATan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, d_spike: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return d_spike / (1 + (torch.pi * v).square())


def loop(x: Tensor) -> Tensor:
    """What one writes oneself."""
    u, spikes = torch.zeros_like(x[0]), []
    for current in x:
        u = 0.5 * u + current
        s = _ATan.apply(u - 1.0)
        u = u * (1 - s)
        spikes.append(s)
    return torch.stack(spikes)


def ours(name: str) -> Layer:
    def run(x: Tensor) -> Tensor:
        rule = RULES[name]
        how = {"hard": True, "rule": rule, "memory": memory}
        return integrate_and_fire(x, None, 1.0, 0.5, **how)[0]

    memory = RULES[name].memory()
    return run


def spikingjelly_0() -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    layer = neuron.LIFNode(
        tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(), step_mode="m"
    )

    def run(x: Tensor) -> Tensor:
        functional.reset_net(layer)
        return layer(x)

    return run


def snntorch() -> Layer:
    import snntorch as snn
    from snntorch import surrogate

    layer = snn.Leaky(beta=0.5, spike_grad=surrogate.atan(), reset_mechanism="zero")

    def run(x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x:
            spike, membrane = layer(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def made(name: str) -> Layer:
    """Returns a contender's layer: currents (T, ...) to spikes (T, ...)."""
    plain = name.removesuffix(" compiled")
    layers: dict[str, Callable[[], Layer]] = {
        "loop": lambda: loop,
        "reference": lambda: ours("ours"),
        "spikingjelly 0": spikingjelly_0,
        "spikingjelly 2": spikingjelly_0,  # the same call serves both
        "snntorch": snntorch,
    }
    layer = ours(name) if name in RULES else layers[plain]()
    return torch.compile(layer) if plain != name else layer


def work(name: str, steps: int, shape: tuple[int, ...]) -> None:
    """A contender's process: one turn for every line that comes in, its seconds out."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn((steps, *shape), generator=source) * 0.8 + 0.4
    d_spikes = torch.randn(x.shape, generator=source)
    if name == "stream":
        spikes, d_x = torch.ones_like(x), torch.ones_like(x)

        def turn() -> None:
            torch.add(x, 1, out=spikes)
            torch.add(x, d_spikes, out=d_x)

    else:
        layer = made(name)
        x.requires_grad_()

        def turn() -> None:
            torch.autograd.grad(layer(x), x, d_spikes)

    with kernel("reference" if name == "reference" else "auto"):
        for _ in range(WARM_UP):  # compiles, and lets the allocator settle
            turn()
        print(f"ready {version(name)}", flush=True)
        for _ in sys.stdin:
            began = time.process_time()
            turn()
            print(time.process_time() - began, flush=True)


def version(name: str) -> str:
    package = PACKAGES.get(name.removesuffix(" compiled"), name.split()[0])
    return metadata.version(package) if package in ("spikingjelly", "snntorch") else ""


@dataclass
class Contender:
    """A process, and the seconds of its turns."""

    name: str
    kept: bool
    process: subprocess.Popen[str]
    seconds: list[float]
    version: str = ""

    def turn(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))


def started(
    name: str, steps: int, given: argparse.Namespace, folder: str | None, *, kept: bool
) -> Contender:
    path = [str(Path(folder).resolve())] if folder else []
    there = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
    there["PYTHONPATH"] = os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "benchmarks.neurons", "--work", name, "--steps", str(steps)]
    process = subprocess.Popen(
        [*words, *["--kept"] * kept, *["--quick"] * given.quick],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=RESULTS.parents[1],
        env=there,
    )
    return Contender(name, kept, process, [])


def compared(names: list[tuple[str, bool]], given: argparse.Namespace, steps: int) -> list[Any]:
    """Returns one row for each contender that could be started, in the order of the names."""
    folders = dict(pair.split("=", 1) for pair in given.folder)
    field: list[Contender] = []
    try:
        for name, kept in names:
            folder = folders.get(name.removesuffix(" compiled"))
            there = started(name, steps, given, folder, kept=kept)
            ready, _, there.version = there.process.stdout.readline().strip().partition(" ")
            print(f"  {name}{' kept' * kept}: {ready or 'not here'} {there.version}", flush=True)
            if ready == "ready":
                field.append(there)
        for _ in range(given.turns):
            for contender in field:
                contender.turn()
    finally:
        for contender in field:
            contender.process.kill()
            contender.process.wait()
    floor = next(c for c in field if c.name == "stream").seconds
    return [row(contender, floor) for contender in field]


def row(contender: Contender, floor: list[float]) -> dict[str, Any]:
    ratios = [mine / other for mine, other in zip(contender.seconds, floor, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "name": contender.name,
        "version": contender.version,
        "large_blocks_kept": contender.kept,
        "milliseconds": round(statistics.median(contender.seconds) * 1e3, 2),
        "fastest_milliseconds": round(min(contender.seconds) * 1e3, 2),
        "times_stream": round(middle, 2),
        "quartiles": [round(low, 2), round(high, 2)],
    }


def verdict(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns the ratios that are promised, against the fastest peer of a kind in its group."""

    def fastest(group: str, names: tuple[str, ...], *, kept: bool) -> dict[str, Any]:
        there = [r for r in rows[group] if r["name"] in names and r["large_blocks_kept"] == kept]
        return min(there, key=lambda r: r["milliseconds"])

    found = {"ours_times_stream": fastest("rules", ("ours",), kept=True)["times_stream"]}
    for kind, group, names, kept in (
        ("eager_peer", "eager", EAGER, False),
        ("compiled_peer_as_it_comes", "compiled", COMPILED, False),
        ("compiled_peer_with_large_blocks_kept", "compiled", COMPILED, True),
    ):
        if group not in rows:
            continue
        mine, peer = fastest(group, ("ours",), kept=True), fastest(group, names, kept=kept)
        ratio = round(peer["milliseconds"] / mine["milliseconds"], 2)
        found[f"fastest_{kind}"] = {"name": peer["name"], "times_ours": ratio}
    return found


def ratios(lengths: dict[str, Any]) -> dict[str, float]:
    """Returns the verdicts of all lengths as ratios, in all of which less is better."""
    found = {}
    for steps, part in lengths.items():
        for name, value in part["verdict"].items():
            peer = isinstance(value, dict)
            ratio = round(1 / value["times_ours"], 4) if peer else value
            found[f"T={steps}: ours / {name}" if peer else f"T={steps}: {name}"] = ratio
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", help="NAME=FOLDER: where a peer is installed alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--lengths", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--out", type=Path, help="the record")
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        if given.kept and not keep_large_blocks():
            raise SystemExit("this C library cannot be told to keep large blocks")
        work(given.work, given.steps, SMALL if given.quick else SHAPE)
        return
    if given.quick:
        given.turns, given.lengths = 2, [2]
    compiled = [(name, kept) for name in ("ours", *COMPILED) for kept in (True, False)]
    eager = [("ours", True), *((name, False) for name in ("reference", *EAGER))]
    rules = [(name, True) for name in RULES]
    lengths = {}
    for steps in given.lengths:
        print(f"T = {steps}", flush=True)
        groups = {"compiled": compiled, "eager": eager, "rules": rules}  # not all at once: memory
        if given.quick:
            groups = {"eager": [("ours", True), ("loop", False)], "rules": [("ours", True)]}
        rows = {
            title: compared([("stream", False), *names], given, steps)
            for title, names in groups.items()
        }
        lengths[str(steps)] = {"rows": rows, "verdict": verdict(rows)}
        print(json.dumps(lengths[str(steps)], indent=1))
    record = {
        "schema": records.SCHEMA,
        "kind": "neurons",
        "shape": ["T", *(SMALL if given.quick else SHAPE)],
        "threads": given.threads,
        "turns": given.turns,
        "load": [round(value, 1) for value in os.getloadavg()],
        "lengths": lengths,
        "ratios": ratios(lengths),
        "environment": environment("cpu")
        | {"llvmlite": metadata.version("llvmlite"), "threads": given.threads},
    }
    if given.out or not given.quick:
        records.write_json(given.out or RESULTS / "neurons-cpu.json", record)


if __name__ == "__main__":
    main()
