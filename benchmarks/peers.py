"""What others' attacks break that ours leave: benchmarks/peers.py RUN EPS [--samples N].

Under Linf(EPS) the suites `standard` and `ensemble19` meet the network, and then every Linf attack
of torchattacks, Foolbox and AutoAttack, through the network's own gradient. What a peer returns is
moved into budget and range and judged as ours is: the deployed network answers again. Of `standard`
the steps that count are run, without its curve over budgets and the checks. A slow peer meets only
what `standard` leaves standing, and its row says so. Seconds are those of the processor.

The peers are no dependencies of this package, and run without the torchvision that one asks for:

    pip install --no-deps torchattacks==3.5.1 foolbox==3.3.4 eagerpy==0.30.0 pyautoattack==0.2.0
    pip install numba scipy requests GitPython
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import pyautoattack
import torch
import torchattacks
from torch import Tensor, nn

from spikeproof import records, seeding
from spikeproof.attacks import PGD, SAPGD, Attack, Linf, under_attack
from spikeproof.catalogue import load_network, read_data, read_spec, to_values
from spikeproof.data import Dataset
from spikeproof.evaluate import Conditions, Record, Step, Suite, evaluate, judge, named_suite
from spikeproof.spiking import ASSG

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torchattacks", "foolbox", "pyautoattack", "eagerpy", "numba", "scipy")
BATCH = 64
Settings = dict[str, Any]
Propose = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]  # of model, x, y, others


@dataclass(frozen=True)
class Peer:
    """An attack of another package."""

    package: str
    attack: str
    settings: Settings
    propose: Propose
    slow: bool = False  # it meets the survivors of `standard` only
    colour: bool = False  # it takes three channels for granted


@dataclass(frozen=True, eq=False)
class Field:
    """The samples, and what `standard` says of them."""

    x: Tensor
    y: Tensor
    others: Tensor  # for each sample the nearest that the network gives another class
    clean: Tensor
    stands: Tensor

    def after(self, fell: Tensor) -> Settings:
        """Returns what stands, and how many of those that `standard` leaves standing fell."""
        places = (fell & self.stands).nonzero().squeeze(1).tolist()
        return {
            "standing": float((self.clean & ~fell).double().mean()),
            "broken": len(places),
            "share": len(places) / max(1, int(self.stands.sum())),
            "places": places,
        }


def of_torchattacks(eps: float) -> Iterator[Peer]:
    """Yields the Linf attacks of torchattacks; its default step, 2/255 of 8/255, is eps / 4."""
    ten = {"eps": eps, "alpha": eps / 4, "steps": 10}
    hundred = ten | {"alpha": eps / 40, "steps": 100}
    spsa = {"eps": eps, "delta": eps / 4, "lr": eps / 4, "nb_iter": 5, "nb_sample": 32}
    of_ten = "RFGSM BIM PGD EOTPGD TPGD Jitter PGDRS MIFGSM NIFGSM SINIFGSM VMIFGSM VNIFGSM DIFGSM"
    many = [("GN", {"std": eps}), ("FGSM", {"eps": eps}), ("FAB", {"eps": eps, "steps": 20})]
    many += [("FFGSM", {"eps": eps, "alpha": 1.25 * eps})]
    many += [(name, ten) for name in of_ten.split()]
    many += [("UPGD", ten | {"loss": loss}) for loss in ("ce", "margin", "dlr")]
    many += [(name, hundred) for name in ("PGD", "TPGD", "Jitter", "MIFGSM")]
    many += [("APGD", {"eps": eps, "steps": 100, "loss": loss}) for loss in ("ce", "dlr")]
    slow = [("APGDT", {"eps": eps, "steps": 20}), ("Square", {"eps": eps, "n_queries": 1000})]
    slow += [("SPSA", spsa), ("AutoAttack", {"eps": eps, "seed": 0})]
    colour = [("TIFGSM", ten), *((name, {"max_epsilon": eps}) for name in ("PIFGSM", "PIFGSMPP"))]

    for rows in (many, slow, colour):
        for name, settings in rows:
            made = _torchattacks(name, settings)
            yield Peer("torchattacks", name, settings, made, rows is slow, rows is colour)


def _torchattacks(name: str, settings: Settings) -> Propose:
    return lambda model, x, y, _: getattr(torchattacks, name)(model, **settings)(x, y)


def of_foolbox(eps: float) -> Iterator[Peer]:
    """Yields the Linf attacks of Foolbox, those of any norm, and its BoundaryAttack (L2)."""
    linf = {"distance": "linf"}
    rows = [("LinfFastGradientAttack", {"random_start": start}) for start in (False, True)]
    for way in ("BasicIterative", "ProjectedGradientDescent"):
        rows += [(f"Linf{way}Attack", {}), (f"LinfAdam{way}Attack", {})]
    rows += [("LinfMomentumIterativeFastGradientMethod", {}), ("LInfFMNAttack", {"steps": 100})]
    rows += [("LinfDeepFoolAttack", {"steps": 20}), ("LinfAdditiveUniformNoiseAttack", {})]
    rows += [("LinfRepeatedAdditiveUniformNoiseAttack", {"repeats": 100})]
    rows += [(f"{name}Attack", linf) for name in ("Inversion", "BinarySearchContrastReduction")]
    rows += [("GaussianBlurAttack", linf | {"steps": 20, "channel_axis": 1})]
    slow = [("LinearSearchBlendedUniformNoiseAttack", linf | {"steps": 100})]
    slow += [("LinfinityBrendelBethgeAttack", {"steps": 50}), ("GenAttack", {"steps": 50})]
    hop = {"constraint": "linf", "steps": 4}
    slow += [("HopSkipJumpAttack", hop), ("BoundaryAttack", {"steps": 300})]
    for name, settings in (*rows, *slow):
        made = _foolbox(name, settings, eps)
        yield Peer("foolbox", name, settings, made, (name, settings) in slow)


def _foolbox(name: str, settings: Settings, eps: float) -> Propose:
    if "distance" in settings:
        settings = settings | {"distance": foolbox.distances.linf}

    def propose(model: nn.Module, x: Tensor, y: Tensor, others: Tensor) -> Tensor:
        box = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        goal, given = foolbox.Misclassification(y), {}
        if name == "GenAttack":  # it must aim at a class: the runner-up
            runner_up = model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
            goal = foolbox.TargetedMisclassification(runner_up)
        if name in ("LinfinityBrendelBethgeAttack", "HopSkipJumpAttack", "BoundaryAttack"):
            given = {"starting_points": others}
        return getattr(foolbox.attacks, name)(**settings)(box, x, goal, epsilons=eps, **given)[0]

    return propose


def of_autoattack(eps: float) -> Iterator[Peer]:
    """Yields AutoAttack (Croce and Hein, 2020), of which pyautoattack is a fork with a version."""

    def propose(model: nn.Module, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        attack = pyautoattack.AutoAttack(model, eps=eps, seed=0, version="standard")
        return attack.run_standard_evaluation(x, y, batch_size=BATCH)[0]

    yield Peer("pyautoattack", "AutoAttack", {"version": "standard", "seed": 0}, propose)


def proposals(peer: Peer, model: nn.Module, x: Tensor, y: Tensor, others: Tensor) -> Tensor:
    """Returns what the peer makes of all samples, in batches."""
    if peer.colour and x.shape[1] == 1:
        gray = nn.AvgPool3d((3, 1, 1))  # which takes batch and channels for channels and depth
        x, others = (part.expand(-1, 3, -1, -1) for part in (x, others))
        seen = nn.Sequential(gray, model).eval()
        return gray(proposals(replace(peer, colour=False), seen, x, y, others))
    with seeding.isolated(0, peer.package, peer.attack):
        np.random.seed(0)  # noqa: NPY002, TID251  some peers draw from it
        batches = zip(*(part.split(BATCH) for part in (x, y, others)), strict=True)
        return torch.cat([peer.propose(model, *(t.clone() for t in b)).detach() for b in batches])


def row(peer: Peer, model: nn.Module, field: Field, threat: Linf) -> Settings:
    """Returns what of all samples stands after a peer, and what it breaks of `standard`'s."""
    met = field.stands if peer.slow else torch.ones_like(field.stands)
    x, y, others = (part[met] for part in (field.x, field.y, field.others))
    named: Settings = {"package": peer.package, "attack": peer.attack, "settings": peer.settings}
    named["met"] = "survivors of standard" if peer.slow else "all"
    began = time.process_time()
    try:
        with under_attack(model):
            found = proposals(peer, model, x, y, others) if len(x) else x
    except Exception as error:  # noqa: BLE001  whatever a peer raises is its row
        return named | {"error": f"{type(error).__name__}: {error}"[:200]}
    moved, seconds = int((~threat.admits(found, x)).sum()), round(time.process_time() - began, 1)
    named |= {"moved_into_budget": moved, "seconds": seconds}
    fell = torch.zeros_like(field.stands)
    fell[met] = judge(model, threat.project(found, x), x, y, threat, batch=BATCH).broken
    return named | field.after(fell) | ({"standing": None} if peer.slow else {})


def suites(model: nn.Module, data: Dataset, threat: Linf, limit: int) -> Iterator[Record]:
    """Yields the records of `standard`, of `ensemble19`, and of two attacks that meet everyone."""
    standard = named_suite("standard", threat, len(data.classes), data.shape)
    counting = Suite(standard.name, tuple(step for step in standard.steps if step.counts))
    primary = Step("sapgd-assg-100", Attack(SAPGD(100), rule=ASSG()), everyone=True)
    alone = Suite("alone", (primary, Step("pgd-10-own", Attack(PGD(10)), everyone=True)))
    for suite in (counting, "ensemble19", alone):
        yield evaluate(
            model, data, threat, suite, conditions=Conditions(limit, batch=BATCH), checks=()
        )


def compared(model: nn.Module, data: Dataset, threat: Linf, limit: int) -> Settings:
    """Returns the rows, and what they are read against."""
    standard, ensemble, alone = suites(model, data, threat, limit)
    x, y = data.test.batch(torch.tensor(standard.data.indices))
    with torch.no_grad():
        same = model(x).argmax(1) == y[:, None]
    others = x[torch.cdist(x.flatten(1), x.flatten(1)).masked_fill(same, torch.inf).argmin(1)]
    field = Field(x, y, others, torch.tensor(standard.clean), torch.tensor(standard.robust))

    def ours(name: str, fell: Iterable[bool]) -> Settings:
        named = {"package": "spikeproof", "attack": name, "settings": {}, "met": "all"}
        return named | field.after(torch.tensor([*fell]))

    rows = [ours("ensemble19", (not stands for stands in ensemble.robust))]
    rows += [ours(step.id, step.success) for step in alone.steps]
    for peer in (*of_torchattacks(threat.eps), *of_foolbox(threat.eps), *of_autoattack(threat.eps)):
        rows.append(row(peer, model, field, threat))
        print(line(rows[-1]), flush=True)
    numbers = {"standing": standard.robust_accuracy, "interval": list(standard.interval)}
    numbers |= {"survivors": sum(standard.robust), "times": standard.times}
    return {"n": len(y), "clean": standard.clean_accuracy, "standard": numbers, "rows": rows}


def line(values: Settings) -> str:
    """Returns a row as a line of text."""
    name = f"{values['package']} {values['attack']} {values['settings'] or ''}".rstrip()
    if "error" in values:
        return f"{name}: {values['error']}"
    met = "met survivors" if values["standing"] is None else f"{values['standing']:.2%} stand"
    return f"{name}: {met}; breaks {values['broken']} of the survivors, {values['share']:.2%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder; its name is the record's")
    parser.add_argument("eps", type=float)
    parser.add_argument("--samples", type=int, default=0, help="0 for all test samples")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPROOF_DATA", "data"))
    given = parser.parse_args()
    model, spec, threat = load_network(given.run), read_spec(given.run), Linf(given.eps)
    found = compared(model, read_data(spec.recipe, given.data), threat, given.samples)
    record = {
        "schema": records.SCHEMA,
        "kind": "peers",
        "recipe": to_values(spec.recipe),
        "threat": to_values(threat),
        "peers": {name: metadata.version(name) for name in PACKAGES},
        "environment": records.environment() | {"threads": torch.get_num_threads()},
    }
    records.write_json(RESULTS / f"peers-{given.run.resolve().name}.json", record | found)
    for values in found["rows"][:3]:
        print(line(values))
    print(f"clean {found['clean']:.2%}, standard {found['standard']['standing']:.2%}")
