"""Neurons that somebody wrote by hand, with the two methods of ``Neuron``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.interop._steps import Adapter, State
from spikeproof.spiking import BPTT


class Dynamics:
    """Asks the module; its gain, leak and threshold where it tells them."""

    def __init__(self, theirs: nn.Module) -> None:
        self.theirs: Any = theirs

    def __getattr__(self, name: str) -> Any:
        if name in ("strict", "theta", "tau", "gain"):
            return getattr(self.theirs, name)
        raise AttributeError(name)

    def charge(self, current: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns what the module's method does."""
        return self.theirs.charge(current, state)

    def reset(self, spikes: Tensor, state: State) -> State:
        """Returns what the module's method does."""
        return self.theirs.reset(spikes, state)


class HandWrittenNeurons(Adapter):
    """A module that takes trains along ``time_axis``, or one step a call where that is ``None``."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__(theirs, Dynamics(theirs), getattr(theirs, "rule", BPTT()))

    @override
    def forward(self, x: Tensor) -> Tensor:
        axis = getattr(self.theirs, "time_axis", 0)
        if axis is None:
            spikes = self.fire(x, self, None, whole=False)
            self.showed(self)
            return spikes
        return torch.movedim(self.fire(torch.movedim(x, axis, 0), None, None, whole=True), 0, axis)
