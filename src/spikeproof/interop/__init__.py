"""Networks of other frameworks, adopted with our neurons in the place of theirs; their weights."""

from spikeproof.interop._adopt import (
    Adopted,
    Adoption,
    adopt,
    adopt_or_lend,
    adoption_of,
    foreign,
    grouped,
    lend,
)
from spikeproof.interop._checkpoints import load_foreign
from spikeproof.interop._steps import Neuron

__all__ = [
    "Adopted",
    "Adoption",
    "Neuron",
    "adopt",
    "adopt_or_lend",
    "adoption_of",
    "foreign",
    "grouped",
    "lend",
    "load_foreign",
]
