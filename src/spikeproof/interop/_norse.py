"""Feed-forward neurons of Norse: LIF with a synaptic current, LIFBox without one, and IAF."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.interop._borrowed import curve_of
from spikeproof.interop._steps import Adapter, State
from spikeproof.spiking import BPTT

WHOLE = ("LIF", "IAF")  # of a train; cells are of a step
KNOWN = ("LIFCell", "LIFBoxCell", "IAFCell", *WHOLE)
STEPS = ("lif_feed_forward_step", "lif_box_feed_forward_step", "iaf_feed_forward_step")


class Dynamics:
    """Euler steps of a membrane and, in LIF, of a synaptic current; a spike above the threshold."""

    strict = True

    def __init__(self, theirs: nn.Module) -> None:
        self.theirs: Any = theirs

    @property
    def kind(self) -> str:
        """Which of the three equations it is."""
        return type(self.theirs).__name__.removesuffix("Cell")

    @property
    def rest(self) -> Tensor:
        """The membrane from which a train starts."""
        p = self.theirs.p
        return torch.as_tensor(p.v_reset if self.kind == "IAF" else p.v_leak).detach()

    @property
    def theta(self) -> Any:
        """The threshold above rest."""
        return torch.as_tensor(self.theirs.p.v_th) - self.rest

    @property
    def gain(self) -> Any:
        """What a current is multiplied by."""
        return 1.0 if self.kind == "IAF" else self.theirs.dt * self.theirs.p.tau_mem_inv

    @property
    def tau(self) -> Any:
        """The share of the membrane that a step keeps."""
        return 1.0 if self.kind == "IAF" else 1 - self.gain

    def charge(self, current: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the membrane's distance above the threshold, membrane and synaptic current."""
        p, dt = self.theirs.p, self.theirs.dt
        v, i = (*state, None)[:2] if state else (None, None)
        v = self.rest.expand_as(current) if v is None else v
        if self.kind == "IAF":
            u = v + current
        elif self.kind == "LIFBox":
            u = v + dt * p.tau_mem_inv * (current + p.v_leak - v)
        else:
            i = current if i is None else i + current
            u = v + dt * p.tau_mem_inv * ((p.v_leak - v) + i)
            i = i + -dt * p.tau_syn_inv * i
        return u - p.v_th, (u, i)

    def reset(self, spikes: Tensor, state: State) -> State:
        """Returns membrane and synaptic current after the step."""
        p, (u, i) = self.theirs.p, state
        if u is None:
            raise TypeError("a membrane is a tensor")
        if self.kind == "LIFBox":
            return p.reset_method(spikes, u, p.v_reset, p.v_th), i
        return (1 - spikes) * u + spikes * p.v_reset, i


class NorseNeurons(Adapter):
    """A module that takes and returns its state."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__(theirs, Dynamics(theirs), BPTT(curve_of(partial(_fire, theirs))))

    @override
    def forward(self, input_tensor: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        theirs: Any = self.theirs
        whole = type(theirs).__name__ in WHOLE
        start = None if state is None else (state.v, getattr(state, "i", None))
        spikes = self.fire(input_tensor, state, start, whole=whole)
        v, i = self.ended(input_tensor[0] if whole else input_tensor)
        made = type(theirs.state_fallback(input_tensor))
        seen = made(v=v) if i is None else made(v=v, i=i)
        self.showed(seen)
        return spikes, seen


def _fire(theirs: Any, distance: Tensor) -> Tensor:
    threshold = theirs.activation.__globals__["threshold"]
    return threshold(distance, theirs.p.method, theirs.p.alpha)


def why_not(theirs: Any) -> str:
    """Returns why a module is left as it is, or nothing."""
    if type(theirs).__name__ not in KNOWN:
        return f"{type(theirs).__name__} is not among {', '.join(KNOWN)}"
    if getattr(theirs, "record_states", False):
        return "it records its states (record_states)"
    if theirs.activation.__name__ not in STEPS:
        return f"its step is {theirs.activation.__name__}"
    return ""
