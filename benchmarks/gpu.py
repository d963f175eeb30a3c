"""Neurons on a GPU beside the copy's own speed, and where a step's time goes: benchmarks/gpu.py.

Each row is a forward and a backward pass of one layer of neurons, a process each, in turn.
``times copy`` is its seconds in units of those that the unavoidable bytes take at the speed of a
copy: the currents read and the spikes written, then the currents (or what was kept of them) and the
gradient of the spikes read and the gradient of the currents written. SpikingJelly's backends are
rows of their own. The profiles are the profiler's tables of a training step and of PGD.
"""

from __future__ import annotations

import argparse
from importlib import import_module, metadata
from itertools import product
from pathlib import Path
from typing import Any

import torch
from benchmarks import _rows
from benchmarks._candidates import interleaved
from benchmarks._networks import network
from benchmarks._timing import RESULTS, Step, Values, paired, record
from torch import Tensor
from torch.nn import functional

from spikeproof import records, seeding
from spikeproof.attacks._graphed import Graphed
from spikeproof.attacks._victim import Victim
from spikeproof.spiking import (
    ASSG,
    BPTT,
    PDSG,
    ATan,
    Rule,
    integrate_and_fire,
    kernel,
    kernel_in_use,
)

RULES: dict[str, Rule] = {
    "ours": BPTT(ATan(), detach_reset=True),
    "ours through ASSG": ASSG(),
    "ours through PDSG": PDSG(),
}
ROWS: dict[str, Values] = {
    **{name: {"rule": name} for name in RULES},
    "reference": {"rule": "ours", "kernel": "reference"},
    "reference, compiled": {"rule": "ours", "kernel": "reference", "compiled": True},
    **{f"spikingjelly 0, {b}": {"backend": b, "path": _rows.OLD} for b in ("torch", "cupy")},
    "spikingjelly 2": {"backend": "torch", "version": "2."},  # it chooses by itself
    "spikingjelly 2, compiled": {"backend": "torch", "version": "2.", "compiled": True},
}
PASSES = 5  # currents, spikes; currents, gradient of the spikes, gradient of the currents


def make(spec: Values) -> tuple[Step, Values]:
    """Returns forward and backward of a row's layer."""
    draw = seeding.generator(0, "gpu", device=spec["device"])
    dtype = getattr(torch, spec["precision"])
    shape = (spec["T"], *spec["shape"])
    x = torch.randn(shape, generator=draw, device=spec["device"]).mul_(0.8).add_(0.4).to(dtype)
    d_spikes = torch.randn(shape, generator=draw, device=spec["device"]).to(dtype)
    facts: Values = {}
    if "backend" in spec:
        facts["version"] = metadata.version("spikingjelly")
        if not facts["version"].startswith(spec.get("version", "0.")):
            raise ModuleNotFoundError(name=f"spikingjelly {spec.get('version', '0.')}")
        fire = _spikingjelly(spec["backend"])
    else:
        fire = _ours(RULES[spec["rule"]])
        facts["kernel"] = kernel_in_use(spec["device"])
    fire = torch.compile(fire) if spec.get("compiled") else fire
    x.requires_grad_()

    def step() -> None:
        with kernel(spec.get("kernel", "auto")):
            torch.autograd.grad(fire(x), x, d_spikes)

    return step, facts


def _ours(rule: Rule) -> Any:
    memory = rule.memory()

    def fire(x: Tensor) -> Tensor:
        return integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule, memory=memory)[0]

    return fire


def _spikingjelly(backend: str) -> Any:
    nodes = import_module("spikingjelly.activation_based.neuron")
    functions = import_module("spikingjelly.activation_based.functional")
    curves = import_module("spikingjelly.activation_based.surrogate")
    how = {"surrogate_function": curves.ATan(), "detach_reset": True, "step_mode": "m"}
    layer = nodes.LIFNode(tau=2.0, decay_input=False, **how)
    if backend != "torch":
        layer.backend = backend

    def fire(x: Tensor) -> Tensor:
        functions.reset_net(layer)
        return layer(x)

    return fire


def neurons(given: argparse.Namespace, copied: float) -> tuple[Values, Values]:
    """Returns the rows of every length and precision, and the ratios that are watched."""
    found, ratios = {}, {}
    for T, precision in product(given.times, given.precisions):
        shared = {"T": T, "precision": precision, "shape": given.shape, "device": given.device}
        specs = {n: shared | row for n, row in ROWS.items() if not given.rows or n in given.rows}
        rows = paired(interleaved(make, specs, rounds=given.rounds, limit=given.limit), "ours")
        size = torch.empty(0, dtype=getattr(torch, precision)).element_size()
        least = PASSES * size * T * torch.Size(given.shape).numel() / copied
        name = f"neurons T={T} {precision}"
        for other, row in rows.items():
            if "seconds" in row:
                row["times copy"] = round(row["seconds"]["median"] / least, 3)
            if other != "ours" and "ours / this" in row:
                ratios[f"{name}: ours / {other}"] = row["ours / this"]["median"]
        if "seconds" in rows.get("ours", {}):
            ratios[f"{name}: ours / copy"] = rows["ours"]["times copy"]
        found[name] = {"seconds of a copy": least, "rows": rows}
        print(name, {other: row.get("times copy", row.get("error")) for other, row in rows.items()})
    return found, ratios


def make_gradient(spec: Values) -> tuple[Step, Values]:
    """Returns one gradient of an attack, launched kernel by kernel or as a graph."""
    device = spec["device"]
    model = network(spec["net"], spec["T"], spec["width"]).to(device).eval()
    model.requires_grad_(requires_grad=False)
    draw = seeding.generator(0, "gradient")
    x = torch.rand(spec["batch"], 3, 32, 32, generator=draw).to(device)
    y = torch.randint(10, (spec["batch"],), generator=draw).to(device)
    victim = Victim(model)

    def gradient(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device, getattr(torch, spec["precision"]), enabled=spec["low"]):
            return victim.gradient(
                x, lambda out: functional.cross_entropy(out, y, reduction="none"), per_step=False
            )

    graphed = Graphed(gradient)
    return (lambda: (graphed if spec["graph"] else gradient)(x, y)), {}


def gradients(given: argparse.Namespace) -> tuple[Values, Values]:
    """Returns what a graph makes of the gradient of an attack, for a few and for many rows."""
    found, ratios = {}, {}
    for net, batch in product(given.nets, sorted({8, given.batch})):
        spec = {"net": net, "batch": batch, "T": 4, "device": given.device}
        spec |= {"width": 0.125 if given.quick else 1.0, "precision": given.precisions[-1]}
        spec["low"] = spec["precision"] != "float32"
        specs = {"as a graph": spec | {"graph": True}, "by kernels": spec | {"graph": False}}
        rows = interleaved(make_gradient, specs, rounds=given.rounds, limit=given.limit)
        name = f"gradient {net} of {batch}"
        found[name] = paired(rows, "as a graph")
        if ratio := found[name]["by kernels"].get("as a graph / this"):
            ratios[f"{name}: graph / kernels"] = ratio["median"]
        print(name, {other: row.get("seconds", row) for other, row in found[name].items()})
    return found, ratios


def profiled(spec: Values) -> Values:
    """Returns the profiler's table of one step of ours, and the heaviest operations by name."""
    step, _ = _rows.make(spec)
    for _ in range(3):
        step()
    gpu = spec["device"] == "cuda"
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, *[kinds.CUDA] * gpu]) as seen:
        step()
    events, key = seen.key_averages(), "device_time_total" if gpu else "self_cpu_time_total"
    own = "self_device_time_total" if gpu else key
    heavy = sorted(events, key=lambda event: getattr(event, own), reverse=True)[:20]
    return {
        "spec": spec,
        "heaviest": {event.key: round(getattr(event, own)) for event in heavy},
        "table": events.table(sort_by=own, row_limit=25).splitlines(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--times", nargs="+", type=int, default=[4, 8, 16, 32], help="T")
    parser.add_argument("--shape", nargs="+", type=int, default=[128, 64, 32, 32])
    parser.add_argument("--batch", type=int, default=256, help="of the profiled steps")
    parser.add_argument("--nets", nargs="*", default=["small", "vgg11"], help="to profile")
    parser.add_argument("--rows", nargs="+", default=[], help="some rows only")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, default=120, help="seconds for one step")
    parser.add_argument("--out", type=Path, help="the record")
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    given = parser.parse_args()
    if given.quick:
        given.times, given.shape, given.batch, given.nets = [2], [2, 4, 8, 8], 2, ["small"]
        given.rows, given.rounds = ["ours", "reference", "spikingjelly 0, torch"], 2
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; nothing is measured")
    kept: Values = record("gpu", given.device, settings=vars(given) | {"out": ""})
    kept["neurons"], kept["ratios"] = neurons(given, kept["ceilings"]["copied"])
    kept["gradients"], more = gradients(given)
    kept["ratios"] |= more
    kept["profiles"] = {}
    for net, kind in product(given.nets, ("training", "pgd")):
        spec = {"net": net, "kind": kind, "T": given.times[min(1, len(given.times) - 1)]}
        spec |= {"batch": given.batch, "device": given.device, "precision": given.precisions[-1]}
        spec |= {"width": 0.125 if given.quick else 1.0}
        kept["profiles"][f"{kind} {net}"] = profiled(spec)
        print(kind, net, kept["profiles"][f"{kind} {net}"]["heaviest"], flush=True)
    if given.out or not given.quick:
        records.write_json(given.out or RESULTS / f"gpu-{given.device}.json", kept)
