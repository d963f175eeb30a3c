"""A network as data: frozen nodes over arrays, checked shapes, files of three kinds; no torch."""

from spikeproof.ir._dead import without_dead
from spikeproof.ir._from_nir import read_nir
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
from spikeproof.ir._packed import SUFFIX, Storage, node_bytes, pack, unpack
from spikeproof.ir._shapes import map_shapes
from spikeproof.ir._to_nir import write_nir
from spikeproof.ir._to_onnx import write_onnx

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
    "node_bytes",
    "pack",
    "read_nir",
    "unpack",
    "without_dead",
    "write_nir",
    "write_onnx",
]
