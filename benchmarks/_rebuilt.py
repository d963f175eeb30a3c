"""A network of ours in the neurons of others.

All compute the same: u <- tau u + x, a spike where u reaches theta, a reset to zero that is not
differentiated (Norse differentiates it), ATan backwards (Norse: SuperSpike). Time is folded into
the batch for every layer but the neurons, and what lies before them is computed once, which is
the best that a user of a peer can write; ``repeated`` instead feeds the input T times, as the
peers' examples do.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.spiking import (
    LIF,
    ATan,
    Rectangle,
    Sigmoid,
    Spiking,
    SpikingNetwork,
    Surrogate,
    Triangle,
)


class Rebuilt(nn.Module):
    """A network whose layers of neurons are a peer's; it forgets before every call."""

    def __init__(self, ours: SpikingNetwork, peer: str, *, repeated: bool = False) -> None:
        super().__init__()
        if not ours.encode.encoder.static:
            raise ValueError(f"{ours.encode.encoder}: only images given directly are rebuilt")
        self.T, self.repeated = ours.encode.T, repeated
        self.encode, self.layers = copy.deepcopy(ours.encode), copy.deepcopy(ours.layers)
        self.reset: Callable[[nn.Module], object] = _reset(peer)
        _exchange(self.layers, peer, repeated=repeated)

    def forward(self, x: Tensor) -> Tensor:
        self.reset(self.layers)
        x = self.encode(x)
        x = x.repeat(self.T, 1, 1, 1) if self.repeated else x
        return self.layers(x).unflatten(0, (self.T, -1)).mean(0)


class Neurons(nn.Module):
    """Unfolds time for ``fire``, which maps (T, B, ...) to (T, B, ...)."""

    def __init__(self, fire: nn.Module, steps: int, *, opens_time: bool) -> None:
        super().__init__()
        self.fire, self.T, self.opens_time = fire, steps, opens_time

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(self.T, *x.shape) if self.opens_time else x.unflatten(0, (self.T, -1))
        return self.fire(x).flatten(0, 1)

    def train(self, mode: bool = True) -> Neurons:  # noqa: ARG002, FBT001, FBT002
        return super().train(True)  # noqa: FBT003  old SpikingJelly has no gradient in eval mode


class Loop(nn.Module):
    """A cell, step by step."""

    def __init__(self, cell: Callable[[Tensor, Any], tuple[Tensor, Any]], *, rests: bool) -> None:
        super().__init__()
        self.cell, self.rests = cell, rests

    def forward(self, current: Tensor) -> Tensor:
        state = torch.zeros_like(current[0]) if self.rests else None
        spikes = []
        for x in current:
            s, state = self.cell(x, state)
            spikes.append(s)
        return torch.stack(spikes)


class Spike(torch.autograd.Function):
    """A step forwards, ATan(2) backwards."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, d_s: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return d_s / (1 + (math.pi * u) ** 2)


def _exchange(parent: nn.Module, peer: str, *, repeated: bool) -> None:
    for name, child in parent.named_children():
        if isinstance(child, Spiking):
            opens = child.opens_time and not repeated
            fire = _FIRES[peer](child.neuron)
            setattr(parent, name, Neurons(fire, child.T, opens_time=opens))
        else:
            _exchange(child, peer, repeated=repeated)


def _spikingjelly(neuron: LIF) -> nn.Module:
    nodes = import_module("spikingjelly.activation_based.neuron")
    given = {
        "v_threshold": neuron.theta,
        "v_reset": 0.0 if neuron.reset == "hard" else None,
        "surrogate_function": curve(neuron.rule.surrogate),
        "detach_reset": neuron.rule.detach_reset,
        "step_mode": "m",
    }
    if neuron.tau == 1:
        return nodes.IFNode(**given)
    return nodes.LIFNode(tau=1 / (1 - neuron.tau), decay_input=False, **given)


def curve(surrogate: Surrogate) -> nn.Module:
    """Returns SpikingJelly's surrogate of the same curve, and refuses a curve that it lacks."""
    theirs = import_module("spikingjelly.activation_based.surrogate")
    match surrogate:
        case ATan(alpha=alpha):
            return theirs.ATan(alpha)
        case Sigmoid(alpha=alpha):
            return theirs.Sigmoid(alpha)
        case Triangle(gamma=gamma):
            return theirs.PiecewiseQuadratic(1 / gamma)
        case Rectangle(width=width):
            return theirs.Rect(1 / width)
    raise ValueError(f"{surrogate} has no counterpart in SpikingJelly")


def _snntorch(neuron: LIF) -> nn.Module:
    peer, curves = import_module("snntorch"), import_module("snntorch.surrogate")
    cell = peer.Leaky(
        beta=neuron.tau,
        threshold=neuron.theta,
        spike_grad=curves.atan(2.0),
        reset_mechanism="zero",
        reset_delay=False,
    )
    return Loop(cell, rests=True)


def _norse(neuron: LIF) -> nn.Module:
    peer = import_module("norse.torch")
    gain = 1 - neuron.tau  # it scales the input by this, and so its membrane and threshold
    return Loop(
        peer.LIFBoxCell(
            peer.LIFBoxParameters(
                tau_mem_inv=torch.tensor(gain / 0.001), v_th=torch.tensor(gain * neuron.theta)
            ),
            dt=0.001,
        ),
        rests=False,
    )


def _plain(neuron: LIF) -> nn.Module:
    def advance(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        u = neuron.tau * v + x
        s = Spike.apply(u - neuron.theta)
        return s, u * (1 - s.detach())

    return Loop(advance, rests=True)


def _reset(peer: str) -> Callable[[nn.Module], object]:
    if peer != "spikingjelly":
        return lambda _: None
    return import_module("spikingjelly.activation_based.functional").reset_net


_FIRES = {
    "spikingjelly": _spikingjelly,
    "snntorch": _snntorch,
    "norse": _norse,
    "plain": _plain,
}
