"""Attacks of other packages as steps of a suite."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.attacks import L0, L1, L2, Ball, Exposed, Linf, Threat
from spikeproof.errors import Refusal
from spikeproof.seeding import all_isolated
from spikeproof.spiking import CBA, Rule

NORMS: dict[type[Threat], str] = {Linf: "Linf", L2: "L2", L1: "L1", L0: "L0"}
MODULES: dict[str, tuple[str, ...]] = {
    "torchattacks": ("torchattacks",),
    "foolbox": ("foolbox",),
    "autoattack": ("autoattack", "pyautoattack"),  # the fork is what an index has
}


@dataclass(frozen=True)
class Theirs:
    """An attack of torchattacks, Foolbox or AutoAttack as a step of a suite.

    ``name`` is its class there, of AutoAttack a version or one of its attacks; ``knobs`` are what
    the class takes besides the budget. It follows the gradient that ``rule`` chooses, in batches of
    the evaluation's, and what it returns is a claim like any other: the judge decides.
    """

    package: str
    name: str
    knobs: dict[str, Any] = field(default_factory=dict)
    rule: Rule | CBA | None = None
    draws: int = 1

    def __post_init__(self) -> None:
        if self.package not in MODULES:
            raise Refusal(
                f"{self.package!r} is no package whose attacks are known; it is one of "
                f"{', '.join(MODULES)}; write a function (model, x, y, threat) for any other"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Returns what it proposes for each sample."""
        if not isinstance(threat, Ball):
            raise Refusal(
                f"{self.package} moves within norm balls and not within {threat}; choose one of "
                f"{', '.join(kind.__name__ for kind in NORMS)}"
            )
        net = Exposed(model, self.rule, self.draws)
        net.to(x.device)
        with all_isolated(0, self.package, self.name), torch.enable_grad():
            return MAKES[self.package](self, net, x.clone(), y.clone(), threat).detach()


def _torchattacks(step: Theirs, net: Exposed, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    made = _named(step, _package(step))
    budget = {"eps": ball.eps} if "eps" in _knobs(made) else {}
    found: Tensor = made(net, **budget | step.knobs)(x, y)
    return found


def _foolbox(step: Theirs, net: Exposed, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    foolbox = _package(step)
    box = foolbox.PyTorchModel(net, bounds=(ball.low, ball.high), device=x.device)
    attack = _named(step, foolbox.attacks)(**step.knobs)
    found: Tensor = attack(box, x, foolbox.Misclassification(y), epsilons=ball.eps)[1]
    return found


def _autoattack(step: Theirs, net: Exposed, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    package, norm = _package(step), NORMS[type(ball)]
    versions = ("standard", "plus", "rand")
    chosen = {"version": step.name} if step.name in versions else {"version": "custom"}
    quiet = {"verbose": False} if "verbose" in _knobs(package.AutoAttack) else {}
    settings = {"seed": 0, "device": x.device} | quiet | chosen | step.knobs
    attack = package.AutoAttack(net, norm=norm, eps=ball.eps, **settings)
    if step.name not in versions:
        attack.attacks_to_run = [step.name]
    found: Any = attack.run_standard_evaluation(x, y)
    return found[0] if isinstance(found, tuple) else found


MAKES: dict[str, Callable[[Theirs, Exposed, Tensor, Tensor, Ball], Tensor]] = {
    "torchattacks": _torchattacks,
    "foolbox": _foolbox,
    "autoattack": _autoattack,
}


def _knobs(made: Any) -> Collection[str]:
    return inspect.signature(made).parameters


def _package(step: Theirs) -> Any:
    for name in MODULES[step.package]:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            why = error
    raise Refusal(
        f"{step.package} cannot be imported ({why}); its attacks are its own; install it, or leave "
        "the step out"
    )


def _named(step: Theirs, of: Any) -> Any:
    found = getattr(of, step.name, None)
    if not isinstance(found, type):
        raise Refusal(
            f"{step.package} has no attack {step.name!r}; a step names a class of it; look into "
            "its documentation"
        )
    return found
