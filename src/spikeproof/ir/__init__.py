"""A network as data: frozen nodes over arrays, checked shapes, packed files; no torch."""

from spikeproof.ir._dead import without_dead
from spikeproof.ir._graph import Graph
from spikeproof.ir._nodes import (
    Add,
    Affine,
    Code,
    Conv,
    Flatten,
    Input,
    Linear,
    Neurons,
    Node,
    Pool,
    Weights,
)
from spikeproof.ir._packed import SUFFIX, Storage, pack, unpack
from spikeproof.ir._shapes import map_shapes

__all__ = [
    "SUFFIX",
    "Add",
    "Affine",
    "Code",
    "Conv",
    "Flatten",
    "Graph",
    "Input",
    "Linear",
    "Neurons",
    "Node",
    "Pool",
    "Storage",
    "Weights",
    "map_shapes",
    "pack",
    "unpack",
    "without_dead",
]
