"""Neurons of snnTorch: Leaky, Lapicque and Synaptic.

A spike fires above the threshold. With ``reset_delay``, which Lapicque always has, the reset comes
one step later, and by subtraction takes a threshold that has not leaked.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.interop._borrowed import curve_of
from spikeproof.interop._steps import Adapter, State
from spikeproof.spiking import BPTT

KNOWN = ("Leaky", "Lapicque", "Synaptic")
STATES = ("syn", "mem", "spk", "syn_exc", "syn_inh")
KINDS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}


class Dynamics:
    """The state is membrane, synaptic current (Synaptic alone), and the spikes yet to be paid."""

    strict = True

    def __init__(self, theirs: nn.Module) -> None:
        self.theirs: Any = theirs

    @property
    def theta(self) -> Any:
        """The threshold."""
        return self.theirs.threshold

    @property
    def tau(self) -> Any:
        """The share of the membrane that a step keeps."""
        theirs = self.theirs
        if type(theirs).__name__ == "Lapicque":
            return 1 - (theirs.time_step / (theirs.R * theirs.C))
        return theirs.beta.clamp(0, 1)

    @property
    def gain(self) -> Any:
        """What a current is multiplied by."""
        theirs = self.theirs
        lapicque = type(theirs).__name__ == "Lapicque"
        return theirs.time_step / theirs.C if lapicque else 1.0

    @property
    def delayed(self) -> bool:
        """Whether a step pays for the spikes of the step before."""
        return bool(getattr(self.theirs, "reset_delay", True))

    @property
    def kind(self) -> str:
        """How it resets."""
        return KINDS[self.theirs.state_function.__name__]

    def charge(self, current: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the membrane's distance above the threshold, and all that the reset needs."""
        theta, zero = self.theirs.threshold, torch.zeros_like(current)
        mem, syn, due = state or (zero, zero, None)
        mem, syn = zero if mem is None else mem, zero if syn is None else syn
        if due is None:
            due = (mem - theta > 0).to(mem.dtype).detach()
        kind, name = self.kind, type(self.theirs).__name__
        if name == "Synaptic":
            syn = self.theirs.alpha.clamp(0, 1) * syn + current
            u = self.tau * mem + syn
        elif name == "Lapicque":
            r, c, step = self.theirs.R, self.theirs.C, self.theirs.time_step
            u = current * r * (1 / (r * c)) * step + self.tau * mem
        else:
            u = self.tau * ((1 - due) * mem if kind == "zero" else mem) + current
        if kind == "subtract":
            u = u - due * theta
        elif kind == "zero" and name != "Leaky":
            u = u - u * due
        return u - theta, (u, syn, due)

    def reset(self, spikes: Tensor, state: State) -> State:
        """Returns the state after the step."""
        u, syn, due = state
        if self.delayed:
            return u, syn, spikes
        if u is None or due is None:
            raise TypeError("a membrane is a tensor")
        now = spikes - due  # what was paid is not paid again
        match self.kind:
            case "subtract":
                return u - now * self.theirs.threshold, syn, None
            case "zero":
                return u - now * u, syn, None
        return u, syn, None


class SnnTorchNeurons(Adapter):
    """A neuron of a step; its state is passed, or hidden in its buffers."""

    def __init__(self, theirs: nn.Module) -> None:
        neurons = Dynamics(theirs)
        rule = BPTT(curve_of(partial(_fire, theirs)), detach_reset=neurons.delayed)
        super().__init__(theirs, neurons, rule)

    @override
    def forward(self, input_: Tensor, *state: Tensor | None, **named: Tensor) -> Any:
        theirs: Any = self.theirs
        names = ("syn", "mem") if type(theirs).__name__ == "Synaptic" else ("mem",)
        given = dict(zip(names, state, strict=False)) | named
        if theirs.init_hidden and any(part is not None for part in given.values()):
            raise TypeError("a state is not passed where init_hidden=True")
        for name, part in given.items():
            if part is not None:
                setattr(theirs, name, part)
        held = {n: p if (p := getattr(theirs, n)).shape == input_.shape else None for n in names}
        at_rest = all(part is None for part in held.values())
        start = None if at_rest else (held["mem"], held.get("syn"), None)
        spikes = self.fire(input_, tuple(held.values()), start, whole=False)
        mem, syn, _ = self.ended(input_)
        now = {"syn": syn, "mem": mem}
        for name in names:
            setattr(theirs, name, now[name])
        self.showed(tuple(now[name] for name in names))
        if theirs.init_hidden and not theirs.output:
            return spikes
        return spikes, *(now[name] for name in names)

    @override
    def rest(self) -> None:
        super().rest()
        relax(self.theirs)


def _fire(theirs: Any, distance: Tensor) -> Tensor:
    return theirs.spike_grad(distance)


def why_not(theirs: Any) -> str:
    """Returns why a neuron is left as it is, or nothing."""
    if type(theirs).__name__ not in KNOWN:
        return f"{type(theirs).__name__} is not among {', '.join(KNOWN)}"
    if theirs.inhibition:
        return "its neurons inhibit each other"
    if theirs.state_quant:
        return "its state is quantised"
    if bool((theirs.graded_spikes_factor != 1).any()):
        return "its spikes are graded"
    return ""


def relax(theirs: Any) -> None:
    """Puts a neuron to rest; the next input tells its size."""
    for name in STATES:
        held = getattr(theirs, name, None)
        if isinstance(held, Tensor):
            setattr(theirs, name, held.new_zeros(0))
