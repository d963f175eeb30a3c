"""The rows of a comparison of steps, and how each makes its step."""

from __future__ import annotations

import os
from contextlib import nullcontext
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch
from benchmarks._floor import Floor, met
from benchmarks._networks import network
from benchmarks._rebuilt import Neurons, Rebuilt
from benchmarks._timing import Step, Values
from torch import Tensor, nn
from torch.nn import functional

from spikeproof import seeding
from spikeproof.attacks import PGD, Attack, Linf, ascend
from spikeproof.spiking import ASSG, recomputed
from spikeproof.training import SGD, CrossEntropy, Plan
from spikeproof.training._loop import _descend, _start

EPS, PGD_STEPS, LR = 8 / 255, 2, 0.01
OLD = [
    os.environ.get("SPIKINGJELLY_14", str(Path(".venv-peers/spikingjelly-0.0.0.0.14").resolve()))
]
OURS: dict[str, Values] = {"ours": {}, "floor": {"floor": True}}
LEAN: dict[str, Values] = {"ours, recomputed": {"recompute": True}}
EAGER: dict[str, Values] = {
    "spikingjelly": {"peer": "spikingjelly"},
    "spikingjelly, input repeated": {"peer": "spikingjelly", "repeated": True},
    "spikingjelly 0.0.0.0.14": {"peer": "spikingjelly", "path": OLD, "version": "0.0.0.0.14"},
    "snntorch": {"peer": "snntorch"},
    "norse": {"peer": "norse"},
    "plain": {"peer": "plain"},
}
COMPILED: dict[str, Values] = {
    "plain, neurons compiled": {"peer": "plain", "compiled": "neurons"},
    "plain, compiled": {"peer": "plain", "compiled": "layers"},
    "spikingjelly, compiled": {"peer": "spikingjelly", "compiled": "layers"},
}
ADAPTIVE: dict[str, Values] = {"ours through ASSG": {"assg": True}}
HUNGRY = ("ours", "spikingjelly", "spikingjelly, input repeated", "spikingjelly 0.0.0.0.14")


def make(spec: Values) -> tuple[Step, Values]:
    """Returns one step of a row, and whether its logits are ours."""
    device, attack = spec["device"], spec["kind"] == "pgd"
    ours = network(spec["net"], spec["T"], spec.get("width", 1.0)).to(device)
    draw = seeding.generator(0, "batch")
    x = torch.rand(spec["batch"], 3, 32, 32, generator=draw).to(device)
    y = torch.randint(10, (spec["batch"],), generator=draw).to(device)
    low = nullcontext()
    if spec["precision"] != "float32":
        low = torch.autocast(device, getattr(torch, spec["precision"]))
    layers, times = met(ours, x), PGD_STEPS if attack else 1
    facts: Values = {"multiply_adds": sum(layer.operations for layer in layers)}
    if spec.get("floor"):
        return Floor(layers, low, device, attack=attack, times=times), facts
    if "peer" not in spec:
        return (climbing(ours, x, y, low, spec) if attack else descending(ours, x, y, spec)), facts
    version = "" if spec["peer"] == "plain" else metadata.version(spec["peer"])
    if version != spec.get("version", version):
        raise ModuleNotFoundError(name=f"{spec['peer']} {spec['version']}")
    facts["version"] = version
    theirs = Rebuilt(ours, spec["peer"], repeated=spec.get("repeated", False)).to(device)
    with torch.no_grad():
        own, other = ours.eval()(x), theirs.eval()(x)
    facts["logits"] = {
        "largest": float(own.abs().max()),
        "differ": float((own - other).abs().max()),
    }
    if spec.get("compiled") == "layers":
        theirs.layers = torch.compile(theirs.layers)
    for part in theirs.modules() if spec.get("compiled") == "neurons" else ():
        if isinstance(part, Neurons):
            part.fire = torch.compile(part.fire)
    return (their_pgd if attack else their_training)(theirs, x, y, low), facts


def descending(model: nn.Module, x: Tensor, y: Tensor, spec: Values) -> Step:
    """Returns the step of our training loop."""
    again, precision = spec.get("recompute", False), spec["precision"]
    plan = Plan(1, len(x), SGD(LR), precision=precision, recompute=again)
    run = _start(model.train(), plan, Path("no-state"), "benchmark", None)
    return lambda: _descend(run, x, y, LR, CrossEntropy(), None)


def climbing(model: nn.Module, x: Tensor, y: Tensor, low: Any, spec: Values) -> Step:
    """Returns some steps of our PGD."""
    attack = Attack(PGD(PGD_STEPS, EPS / 4), rule=ASSG() if spec.get("assg") else None)
    model = recomputed(model) if spec.get("recompute") else model

    def step() -> None:
        with low:
            ascend(attack, model, x, y, Linf(EPS), seed=0)

    return step


def their_training(model: nn.Module, x: Tensor, y: Tensor, low: Any) -> Step:
    """Returns the same step as its user writes it."""
    knobs, weights = SGD(LR), model.train().parameters()
    optimizer = torch.optim.SGD(
        weights, LR, knobs.momentum, weight_decay=knobs.weight_decay, nesterov=knobs.nesterov
    )

    def step() -> None:
        with low:
            loss = functional.cross_entropy(model(x), y)
        loss.item()  # users log it, as we do
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def their_pgd(model: nn.Module, x: Tensor, y: Tensor, low: Any) -> Step:
    """Returns as many steps of torchattacks."""
    attacks = import_module("torchattacks")
    attack = attacks.PGD(model.eval(), eps=EPS, alpha=EPS / 4, steps=PGD_STEPS)

    def step() -> None:
        with low:
            attack(x, y)

    return step
