"""Operations of one inference, layer by layer; those of analog inputs and of neurons apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spikeproof.errors import Refusal

Reads = Literal["analog", "spikes", "graded"]


@dataclass(frozen=True)
class Layer:
    """A convolution or dense layer; counts are means over samples, of all steps together."""

    name: str
    reads: Reads  # values of the sensor; zeros and ones; or sums and means of spikes
    events: float  # values that are not zero
    operations: float  # kept weights that they meet
    dense: float  # weights that they would meet if all were kept
    possible: float  # weights that would be met if all were kept and every value arrived
    kept: int
    weights: int


@dataclass(frozen=True)
class Operations:
    """All layers, and the updates of membranes; biases are part of the updates."""

    layers: tuple[Layer, ...]
    updates: float  # neurons times steps
    leaky: float  # those of them that multiply by a leak

    @property
    def synaptic(self) -> float:
        """Accumulations: kept weights that meet a spike."""
        return sum(layer.operations for layer in self.layers if layer.reads == "spikes")

    @property
    def multiplied(self) -> float:
        """Multiplications with accumulation: kept weights that meet another value than 0 or 1."""
        return sum(layer.operations for layer in self.layers if layer.reads != "spikes")

    @property
    def analog(self) -> float:
        """The part of the multiplications that the sensor's values cause."""
        return sum(layer.operations for layer in self.layers if layer.reads == "analog")

    @property
    def behind_neurons(self) -> float:
        """Operations of all layers that neurons feed, which is what paper B counts."""
        return sum(layer.operations for layer in self.layers if layer.reads != "analog")


def gain(dense: Operations, sparse: Operations) -> float:
    """Returns how many times fewer operations the sparse network takes, as paper B counts them.

    Each network runs with its own spikes; analog layers and neurons are left out.
    """
    if not sparse.behind_neurons:
        raise Refusal("the sparse network has no operations behind neurons; a ratio needs some")
    return dense.behind_neurons / sparse.behind_neurons
