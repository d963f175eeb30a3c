"""Networks of other frameworks, small enough for a test, and how to ask them."""

from __future__ import annotations

import copy
import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.interop._steps import Stepped
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import BPTT

STEPS = 6


def framework(name: str) -> Any:
    """Returns a module of another framework, or skips the test and says why."""
    with warnings.catch_warnings(), isolated(0):
        warnings.simplefilter("ignore")  # old releases script functions at import
        return pytest.importorskip(
            name,
            reason=f"{name} cannot be imported here; scripts/interop makes an environment with it",
            exc_type=ImportError,
        )


def jelly(part: str) -> Any:
    return framework(f"spikingjelly.activation_based.{part}")


def jelly_model(part: str) -> Any:
    """Its networks import torchvision, for weights to download that nobody asks for here."""
    jelly("neuron")
    before = {name: sys.modules.get(name) for name in STANDING_IN}
    try:
        for name in STANDING_IN:
            sys.modules[name] = types.ModuleType(name)
        sys.modules[STANDING_IN[-1]].load_state_dict_from_url = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"spikingjelly.activation_based.model.{part}")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


STANDING_IN = ("torchvision", "torchvision.models", "torchvision.models.utils")


def samples(count: int = 40, features: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=generator(seed, "samples"))


def labels(count: int, classes: int = 4) -> Tensor:
    return torch.arange(count) % classes


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    at = x.clone().requires_grad_()
    logits = net(at)
    functional.cross_entropy(logits, labels(len(x), logits.shape[1]), reduction="sum").backward()
    assert at.grad is not None
    return at.grad


def close(a: Tensor, b: Tensor, most: float = 2e-6) -> None:
    scale = float(a.abs().max())
    assert scale > 0, "there is nothing to compare"
    assert float((a - b).abs().max()) <= most * scale


class Jelly(nn.Module):
    """Two layers of SpikingJelly's neurons, given whole trains ('m') or one step a call ('s')."""

    def __init__(self, make: Callable[[], nn.Module], mode: str, *, resets: bool = True) -> None:
        super().__init__()
        self.mode, self.resets = mode, resets
        with isolated(0):
            self.a, self.b, self.c = nn.Linear(6, 40), nn.Linear(40, 30), nn.Linear(30, 4)
        self.n1, self.n2 = make(), make()
        for node in (self.n1, self.n2):
            node.step_mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.resets:
            jelly("functional").reset_net(self)
        if self.mode == "m":
            return self.after(2 * self.a(x).expand(STEPS, -1, -1)).mean(0)
        return sum(self.after(2 * self.a(x)) for _ in range(STEPS)) / STEPS

    def after(self, current: Tensor) -> Tensor:
        return self.c(self.n2(2 * self.b(self.n1(current))))


def trained_mode(net: nn.Module) -> nn.Module:
    """A copy in training mode, where old releases have their surrogates."""
    return copy.deepcopy(net).train()


def fired(neurons: Any, currents: Tensor, *, whole: bool) -> Tensor:
    """The spikes (T, N) of dynamics alone."""
    layer = Stepped(neurons, BPTT())
    layer.whole = whole
    if whole:
        layer.T = len(currents)
        return layer(currents).view_as(currents)
    return torch.stack([layer(current) for current in currents])


def currents(seed: int, spread: float = 2.0) -> Tensor:
    return spread * torch.randn(8, 400, generator=generator(seed, "currents")) + 0.3
