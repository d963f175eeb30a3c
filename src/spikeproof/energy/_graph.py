"""Operations of graphs: how many kept weights every place reaches, times what happened there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from spikeproof.energy._operations import Layer, Operations, Reads
from spikeproof.errors import Refusal
from spikeproof.ir import Add, Affine, Conv, Graph, Input, Linear, Neurons, Pool

Array = np.ndarray


def fan_out(graph: Graph, place: int, *, dense: bool = False) -> Array:
    """Returns how many weights of a layer each value of the map that it reads meets.

    Borders and strides are exact: a value that no window covers meets none. ``dense`` counts
    weights that are zero too.
    """
    node = graph.nodes[place]
    if not isinstance(node, Conv | Linear):
        raise Refusal(f"node {place} is a {node.kind}; weights belong to conv and linear; name one")
    shape, weights = graph.shapes[node.source], node.weights
    inner = math.prod(weights.shape[1:])
    counts = np.full(inner, weights.shape[0], np.int64)
    if not dense:
        counts = np.bincount(weights.positions.astype(np.int64) % inner, minlength=inner)
    counts = counts.reshape(weights.shape[1:])
    if isinstance(node, Linear):
        return counts
    rows, columns = (
        _covered(side, kernel, stride, pad, outputs)
        for side, kernel, stride, pad, outputs in zip(
            shape[1:], weights.shape[2:], node.stride, node.padding, graph.shapes[place][1:],
            strict=True,
        )
    )  # fmt: skip
    return np.einsum("iab,ay,bx->iyx", counts, rows, columns, optimize=True)


def _covered(side: int, kernel: int, stride: int, pad: int, outputs: int) -> Array:
    """Returns whether a tap of the window ever lies on a place, (kernel, side)."""
    shifted = np.arange(side) + pad - np.arange(kernel)[:, None]
    window = shifted // stride
    return ((shifted % stride == 0) & (window >= 0) & (window < outputs)).astype(np.int64)


def operations(graph: Graph, events: Mapping[int, Array], samples: int) -> Operations:
    """Returns the means over samples; ``events`` counts non-zero values that each layer reads.

    That is ``Activity.events`` of the runtime: by layer, an array of the shape of its source.
    """
    if samples < 1:
        raise Refusal("there are no samples; a mean needs one; run the network first")
    kinds = _values(graph)
    layers = []
    for place, node in enumerate(graph.nodes):
        if not isinstance(node, Conv | Linear):
            continue
        seen = events[place] / samples
        steps = graph.input.steps if graph.timed[node.source] else 1
        dense = fan_out(graph, place, dense=True)
        layers.append(
            Layer(
                name=f"{place}:{node.kind}",
                reads=kinds[node.source],
                events=float(seen.sum()),
                operations=float((seen * fan_out(graph, place)).sum()),
                dense=float((seen * dense).sum()),
                possible=float(dense.sum()) * steps,
                kept=node.weights.kept,
                weights=node.weights.size,
            )
        )
    return Operations(tuple(layers), *_updates(graph))


def _updates(graph: Graph) -> tuple[float, float]:
    updates = leaky = 0
    for place, node in enumerate(graph.nodes):
        if isinstance(node, Neurons):
            count = math.prod(graph.shapes[place]) * graph.input.steps
            updates += count
            leaky += count if node.tau < 1 else 0
    return float(updates), float(leaky)


def _values(graph: Graph) -> list[Reads]:
    """Returns what kind of values every node gives."""
    found: list[Reads] = []
    for node in graph.nodes:
        before = [found[source] for source in node.sources]
        kind: Reads = before[0] if before else "spikes"
        match node:
            case Input():
                kind = "analog" if node.analog or node.weighted else "spikes"
            case Neurons():
                kind = "spikes"
            case Pool() if node.how == "max":
                pass
            case Pool() | Affine() | Add() if kind == "spikes":
                kind = "graded"
            case Conv() | Linear() if kind == "spikes":
                kind = "graded"  # currents
        found.append("analog" if "analog" in before and not isinstance(node, Neurons) else kind)
    return found


def published(graph: Graph, spikes: Mapping[int, float]) -> dict[int, float]:
    """Returns paper B's count for every layer of neurons, from its spikes per inference.

    A spike meets the outgoing weights of an average neuron of its layer: borders are not looked
    at, and a pool in between divides by its area.
    """
    found = {}
    for place, count in spikes.items():
        met = 0.0
        for reader, kept in _weights_after(graph, place):
            met += kept * math.prod(graph.shapes[reader][1:])
        found[place] = count * met / math.prod(graph.shapes[place])
    return found


def _weights_after(graph: Graph, place: int) -> Iterator[tuple[int, int]]:
    """Returns the layers that read these neurons, through pools too, and what they keep."""
    for reader in graph.readers[place]:
        node = graph.nodes[reader]
        if isinstance(node, Conv | Linear):
            yield reader, node.weights.kept
        elif not isinstance(node, Neurons):
            yield from _weights_after(graph, reader)
