"""Seconds of ``standard`` beside those of the same attacks of torchattacks on SpikingJelly.

    python -m benchmarks.judge_speed RUN EPS [--samples 256] [--every 1] [--allocator kept]

The network of RUN is rebuilt in SpikingJelly with its own weights and must answer alike. Each step
of ``standard`` becomes the attack of torchattacks with the same number of gradients or queries:
APGD, targeted APGD, FAB, Square, PGD and FGSM are themselves, SA-PGD and the sparse search are PGD.
A gradient rule is SpikingJelly's curve where it has that one, and the network's own where not. A
search without a counterpart (random noise) costs the peer nothing. Theirs meet, as ours do and as
the MultiAttack of torchattacks makes them, those that still stand, all in one batch; ours come in
the batches of ``evaluate`` with all that it does: verdicts, counts and seals. With ``--alone``
each of theirs meets all that were right, as attacks do that are called one by one. The checks of
``standard`` are run on neither side; AutoAttack as it comes follows with its own seconds. With
``--every N`` both sides run each N-th step, and nothing is scaled.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks._counterparts import counterpart, seen_through
from benchmarks._rebuilt import Rebuilt
from benchmarks._timing import RESULTS, Values, record
from torch import Tensor, nn

from spikeproof import records, seeding
from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.catalogue import load_network, read_data, read_spec, to_values
from spikeproof.evaluate import Conditions, Step, Suite, evaluate, named_suite
from spikeproof.spiking import keep_large_blocks


@dataclass
class Field:
    """The samples and who of them still stands, in the eyes of the peer's network."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Linf
    alone: bool
    right: Tensor = field(init=False)
    stands: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.right = ~self.fooled(self.x, torch.arange(len(self.y), device=self.y.device))
        self.stands = self.right.clone()

    def fooled(self, x: Tensor, rows: Tensor) -> Tensor:
        """Returns whom these inputs mislead."""
        with torch.no_grad():
            return self.model(x).argmax(1) != self.y[rows]

    def meet(self, step: Step, ours: nn.Module) -> Values:
        """Runs the counterpart of a step over those that it meets."""
        threat, attack = step.threat or self.threat, step.attack
        chosen = counterpart(attack, threat.eps)
        every = self.alone or step.everyone or not step.counts
        met = self.right.clone() if every else self.stands.clone()
        met[step.limit or len(met) :] = False
        rows, row = met.nonzero().squeeze(1), {"id": step.id, "met": int(met.sum())}
        if chosen is None:
            return row | {"attack": "none", "seconds": 0.0}
        source = Rebuilt(step.source(ours), "spikingjelly").eval() if step.source else self.model
        source, gradient = seen_through(source, attack.rule)
        row |= {"attack": chosen[0], "settings": chosen[1], "gradient": gradient}
        made = getattr(import_module("torchattacks"), chosen[0])(source, **chosen[1])
        fell, began = torch.zeros_like(rows, dtype=torch.bool), time.perf_counter()
        try:
            for restart in range(attack.restarts):
                left = (~fell).nonzero().squeeze(1)
                if not len(left):
                    break
                at = rows[left]
                with seeding.isolated(0, step.id, restart):
                    found = made(self.x[at].clone(), self.y[at].clone()).detach()
                fell[left] = self.fooled(threat.project(found, self.x[at]), at)
        except Exception as error:  # noqa: BLE001  whatever a peer raises is its row
            row["error"] = f"{type(error).__name__}: {error}"[:200]
        if step.counts:
            self.stands[rows[fell]] = False
        seconds = round(time.perf_counter() - began, 3)
        return row | {"seconds": seconds, "fell": int(fell.sum())}


def autoattack(stage: Field) -> Values:
    """Returns what AutoAttack leaves of all that are right, and its seconds."""
    made = import_module("pyautoattack").AutoAttack(
        stage.model, eps=stage.threat.eps, seed=0, version="standard"
    )
    began = time.perf_counter()
    with seeding.isolated(0, "autoattack"):
        found = made.run_standard_evaluation(stage.x, stage.y, batch_size=len(stage.x))[0]
    found = stage.threat.project(found.detach(), stage.x)
    stands = stage.right & ~stage.fooled(found, torch.arange(len(stage.y), device=stage.y.device))
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "stands": stands.double().mean().item(),
    }


def _since(began: tuple[float, float]) -> Values:
    spent = (time.perf_counter() - began[0], time.process_time() - began[1])
    return {"seconds": round(spent[0], 2), "of_processors": round(spent[1], 2)}


def measured(
    model: nn.Module, data: Any, suite: Suite, conditions: Conditions, given: argparse.Namespace
) -> Values:
    """Returns both sides: seconds, accuracies, and the rows of the peer."""
    threat = Linf(given.eps)
    first = Step("first", Attack(PGD(2)))  # what is compiled at a first call is kept on disk
    evaluate(model, data, threat, Suite("first", (first,)), conditions=Conditions(4), checks=())
    began = time.perf_counter(), time.process_time()
    ours = evaluate(model, data, threat, suite, conditions=conditions, checks=())
    own_seconds = _since(began)
    device = next(model.parameters()).device
    x, y = (part.to(device) for part in data.test.batch(torch.tensor(ours.data.indices)))
    theirs = Rebuilt(model, "spikingjelly").eval()
    with torch.no_grad():
        own, other = model.eval()(x), theirs(x)
    if not torch.equal(own.argmax(1), other.argmax(1)):
        raise SystemExit("the rebuilt network answers otherwise; nothing is measured")
    began = time.perf_counter(), time.process_time()
    stage = Field(theirs, x, y, threat, given.alone)
    rows = [stage.meet(step, model) for step in suite.steps]
    their_seconds = _since(began)
    return {
        "logits_differ": float((own - other).abs().max()),
        "ours": own_seconds
        | {
            "seconds_of_steps": ours.times["seconds_of_steps"],
            "worst_case": ours.robust_accuracy,
        },
        "theirs": their_seconds
        | {
            "worst_case": stage.stands.double().mean().item(),
            "rows": rows,
        },
        "clean": ours.clean_accuracy,
        "autoattack": None if given.without_autoattack else autoattack(stage),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder; its name is the record's")
    parser.add_argument("eps", type=float)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--every", type=int, default=1, help="each N-th step only")
    parser.add_argument("--without-autoattack", action="store_true", help="it takes long")
    parser.add_argument("--alone", action="store_true", help="theirs meet all that were right")
    parser.add_argument("--batch", type=int, default=64, help="ours; theirs come in one")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--allocator", choices=("system", "kept"), default="system")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    parser.add_argument("--out", type=Path, help="the record")
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    given = parser.parse_args()
    if given.quick:
        given.samples, given.every = 8, 8
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; nothing is measured")
    if given.allocator == "kept":
        keep_large_blocks()
    np.random.seed(0)  # noqa: NPY002, TID251  some peers draw from it
    model, spec, threat = (
        load_network(given.run).to(given.device),
        read_spec(given.run),
        Linf(given.eps),
    )
    data = read_data(spec.recipe, given.data)
    suite = named_suite("standard", threat, len(data.classes), data.shape)
    suite = replace(suite, steps=suite.steps[:: given.every])
    kept = record(
        "judge_speed", given.device, recipe=to_values(spec.recipe), threat=to_values(threat)
    )
    kept |= {"samples": given.samples, "every": given.every, "allocator": given.allocator}
    kept |= {"batch": given.batch, "alone": given.alone}
    kept |= {"whole": given.every == 1, "compared": " ".join(__doc__.split())}
    conditions = Conditions(given.samples, batch=given.batch, keep_adversarials=False)
    kept |= measured(model, data, suite, conditions, given)
    ours, theirs = kept["ours"], kept["theirs"]
    kept["ratios"] = {
        f"{key}: ours / theirs": round(ours[key] / theirs[key], 4)
        for key in ("seconds", "of_processors")
    }
    if theirs["worst_case"]:
        accuracies = ours["worst_case"] / theirs["worst_case"]
        kept["ratios"]["worst case: ours / theirs"] = round(accuracies, 4)
    name = given.run.resolve().name
    if given.out or not given.quick:
        records.write_json(given.out or RESULTS / f"judge-speed-{name}-{given.device}.json", kept)
    part = "" if kept["whole"] else f" (each {given.every}th step only)"
    for side in (ours, theirs):
        print(f"{side['seconds']:.1f} s, {side['worst_case']:.2%} stand{part}")
    print(f"AutoAttack: {kept['autoattack']}")
