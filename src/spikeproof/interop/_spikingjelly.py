"""Neurons of SpikingJelly: IF, LIF and parametric LIF, of 0.0.0.0.14 and of 2."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.interop._borrowed import curve_of
from spikeproof.interop._steps import Adapter, State
from spikeproof.spiking import BPTT

KNOWN = ("IFNode", "LIFNode", "ParametricLIFNode")


class Dynamics:
    """Charge, fire at the threshold, reset to a value or by the threshold.

    ``tau`` is the reciprocal of the share that leaks, and ``decay_input`` scales the current by it.
    """

    def __init__(self, theirs: nn.Module) -> None:
        self.theirs: Any = theirs
        self.old = hasattr(theirs, "neuronal_charge")  # 0.0.0.0.14 rounds otherwise

    @property
    def rest(self) -> float:
        """The membrane from which a train starts."""
        return 0.0 if self.theirs.v_reset is None else self.theirs.v_reset

    @property
    def theta(self) -> Any:
        """The threshold above rest."""
        return self.theirs.v_threshold - self.rest

    @property
    def tau(self) -> Any:
        """The share of the membrane that a step keeps."""
        match type(self.theirs).__name__:
            case "IFNode":
                return 1.0
            case "LIFNode":
                return 1 - 1 / self.theirs.tau
        return 1 - self.theirs.w.sigmoid()

    @property
    def gain(self) -> Any:
        """What a current is multiplied by."""
        return 1 - self.tau if getattr(self.theirs, "decay_input", False) else 1.0

    def same_as_ours(self) -> tuple[float, float, bool] | None:
        """Returns threshold, leak and kind of reset where our own neuron has the same bits.

        It has them without a leak, and where both formulas of a leak are rounded once.
        """
        theirs = self.theirs
        leaks = type(theirs).__name__ != "IFNode"
        if leaks and (type(theirs).__name__ != "LIFNode" or theirs.decay_input):
            return None
        if leaks and theirs.tau not in (2.0, 4.0, 8.0, 16.0):
            return None
        if theirs.v_reset not in (None, 0.0) or not isinstance(theirs.v_threshold, float):
            return None
        return theirs.v_threshold, self.tau, theirs.v_reset is not None

    def charge(self, current: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the membrane's distance above the threshold, and the membrane."""
        given = state[0] if state else None
        v = torch.full_like(current, self.rest) if given is None else given
        u = self._charged(current, v)
        return u - self.theirs.v_threshold, (u,)

    def _charged(self, x: Tensor, v: Tensor) -> Tensor:
        theirs, rest = self.theirs, self.rest
        kind = type(theirs).__name__
        if kind == "IFNode":
            return v + x
        if kind == "LIFNode":
            if theirs.decay_input:
                return v + (x - (v - rest)) / theirs.tau
            if self.old and theirs.v_reset is None:
                return v * (1.0 - 1.0 / theirs.tau) + x
            return v - (v - rest) / theirs.tau + x
        share = theirs.w.sigmoid()
        if theirs.decay_input:
            return v + (x - (v - rest)) * share
        if self.old and rest == 0.0:
            return v * (1.0 - share) + x
        return v - (v - rest) * share + x

    def reset(self, spikes: Tensor, state: State) -> State:
        """Returns the membrane after the step."""
        (u,) = state
        if u is None:
            raise TypeError("a membrane is a tensor")
        if self.theirs.v_reset is None:
            return (u - spikes * self.theirs.v_threshold,)
        return (spikes * self.theirs.v_reset + (1.0 - spikes) * u,)


class SpikingJellyNeurons(Adapter):
    """A node in either step mode; its membrane lies in ``v``, as others expect."""

    def __init__(self, theirs: nn.Module) -> None:
        node: Any = theirs
        fire = curve_of(partial(_fire, node))
        super().__init__(theirs, Dynamics(theirs), BPTT(fire, detach_reset=node.detach_reset))

    @override
    def forward(self, x: Tensor) -> Tensor:
        node: Any = self.theirs
        whole, v = node.step_mode == "m", node.v
        first = x[0] if whole else x
        if not isinstance(v, Tensor):
            start = None if v == self.of_analog().rest else torch.full_like(first, v)
        else:
            start = v if v.shape == first.shape else None
        spikes = self.fire(x, v, None if start is None else (start,), whole=whole)
        node.v = self.ended(first)[0]
        self.showed(node.v)
        return spikes

    @override
    def rest(self) -> None:
        super().rest()
        relax(self.theirs)


def _fire(node: Any, distance: Tensor) -> Tensor:
    return node.surrogate_function(distance)


def why_not(node: Any) -> str:
    """Returns why a node is left as it is, or nothing."""
    if type(node).__name__ not in KNOWN:
        return f"{type(node).__name__} is not among {', '.join(KNOWN)}"
    if ".activation_based." not in type(node).__module__:
        return f"{type(node).__module__} has steps of its own"
    if node.store_v_seq:
        return "it stores its membranes (store_v_seq)"
    return ""


def relax(node: Any) -> None:
    """Puts a node to rest."""
    node.reset()
