"""Our steps in the attacks of torchattacks, and our gradients in the curves of SpikingJelly."""

from __future__ import annotations

import copy
from typing import Any

from benchmarks._rebuilt import Neurons, curve
from benchmarks._timing import Values
from torch import nn

from spikeproof.attacks import APGD, FAB, FGSM, PGD, SAPGD, Attack, SparseSearch, Square
from spikeproof.spiking import BPTT


def counterpart(attack: Attack, eps: float) -> tuple[str, Values] | None:
    """Returns name and settings of the attack of torchattacks that asks as much."""
    margin = attack.loss.kind == "margin"
    match attack.search:
        case FGSM():
            return "FGSM", {"eps": eps}
        case PGD(steps=steps, step_size=size) if size:
            return "PGD", {"eps": eps, "alpha": size, "steps": steps}
        case PGD(steps=steps) | SAPGD(steps=steps) | SparseSearch(steps=steps):
            settings = {"eps": eps, "alpha": 2.5 * eps / steps, "steps": steps}
            return ("UPGD", settings | {"loss": "margin"}) if margin else ("PGD", settings)
        case APGD(steps=steps, targets=targets) if targets:
            return "APGDT", {"eps": eps, "steps": steps, "n_classes": targets + 1}
        case APGD(steps=steps):
            loss = "ce" if attack.loss.kind == "ce" else "dlr"
            return "APGD", {"eps": eps, "steps": steps, "loss": loss}
        case FAB(steps=steps):
            return "FAB", {"eps": eps, "steps": steps}
        case Square(queries=queries):
            return "Square", {"eps": eps, "n_queries": queries}
    return None


def seen_through(theirs: nn.Module, rule: Any) -> tuple[nn.Module, str]:
    """Returns the peer's network with the curve of a rule, and the name of the gradient."""
    if isinstance(rule, BPTT):
        try:
            surrogate = curve(rule.surrogate)
        except ValueError:
            return theirs, "own"
        view = copy.deepcopy(theirs)
        for layer in view.modules():
            if isinstance(layer, Neurons):
                layer.fire.surrogate_function = surrogate
                layer.fire.detach_reset = rule.detach_reset
        return view, str(rule)
    return theirs, "own"
