"""What can be left out of a network without changing a bit of its answer.

Channels that can never fire whatever comes in, and the weights that read them; weights of channels
that nobody reads; and such channels whole, where no map that is added to another has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from spikeproof.ir._graph import Graph
from spikeproof.ir._nodes import (
    Add,
    Affine,
    Conv,
    Flatten,
    Input,
    Linear,
    Neurons,
    Node,
    Pool,
    Weights,
)

MARGIN = 1e-3  # of the threshold, for the rounding of the membrane
EPS = float(np.finfo(np.float32).eps)
Bounds = tuple[np.ndarray, np.ndarray]


def without_dead(graph: Graph) -> Graph:
    """Returns the network without what is dead; images are taken to lie in [0, 1]."""
    while True:
        thinner = _narrowed(_unheard(_silenced(graph)))
        if (thinner.kept, thinner.size) == (graph.kept, graph.size):
            return thinner
        graph = thinner


def silent(graph: Graph) -> dict[int, np.ndarray]:
    """Returns for every layer of neurons which channels can never fire, in however many steps."""
    found: dict[int, np.ndarray] = {}
    bounds: list[Bounds] = []
    for place, node in enumerate(graph.nodes):
        given = [bounds[source] for source in node.sources]
        if isinstance(node, Neurons):
            high = given[0][1]
            gain = 1 / (1 - node.tau) if node.tau < 1 else math.inf
            most = _times(np.maximum(high, 0), np.array(gain))
            found[place] = most < (1 - MARGIN) * node.theta
            bounds.append((np.zeros(len(high)), (~found[place]).astype(float)))
        else:
            bounds.append(_bounds(node, given, graph.shapes[place]))
    return found


def _bounds(node: Node, given: Sequence[Bounds], shape: tuple[int, ...]) -> Bounds:
    """Returns the least and the largest value of every channel."""
    match node:
        case Input():
            return _input_bounds(node)
        case Conv() | Linear():
            return _weighted_bounds(node, *given[0])
        case Affine():
            scale = node.scale.astype(float)
            ends = [_times(scale, end) + node.shift for end in given[0]]
            return np.minimum(*ends), np.maximum(*ends)
        case Add():
            low, high = (np.zeros(shape[0]) for _ in range(2))
            for factor, side in zip(node.scales, given, strict=True):
                ends = [_times(np.array(factor), end) for end in side]
                low, high = low + np.minimum(*ends), high + np.maximum(*ends)
            return low, high
        case Pool() if node.how == "avg" and any(node.padding):
            return np.minimum(given[0][0], 0), np.maximum(given[0][1], 0)
        case Flatten():
            low, high = given[0]
            return np.repeat(low, shape[0] // len(low)), np.repeat(high, shape[0] // len(high))
    return given[0]


def _input_bounds(node: Input) -> Bounds:
    channels = node.shape[0]
    if not node.analog:
        return np.zeros(channels), np.ones(channels)
    top = np.inf if node.events else 1.0
    mean, std = (np.broadcast_to(np.array(v, float), channels) for v in (node.mean, node.std))
    return (0 - mean) / std, (top - mean) / std


def _weighted_bounds(node: Conv | Linear, low: np.ndarray, high: np.ndarray) -> Bounds:
    weights = node.weights
    if isinstance(node, Conv) and any(node.padding):
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    row, channel = _axes(weights)
    value = weights.values.astype(float)
    ends = _times(value, low[channel]), _times(value, high[channel])

    def summed(terms: np.ndarray) -> np.ndarray:
        return np.bincount(row, terms, weights.shape[0])

    # What float32 may add by rounding, however it orders its sum.
    terms = summed(np.ones(len(row)))
    total = summed(np.maximum(*map(np.abs, ends))) + np.abs(node.bias) * (terms > 0)
    slack = EPS * (1 + terms) * total
    return summed(np.minimum(*ends)) + node.bias - slack, (
        summed(np.maximum(*ends)) + node.bias + slack
    )


def _times(scale: np.ndarray, end: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(scale == 0, 0.0, scale * end)


def _axes(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output and the input channel of every kept weight."""
    inner = math.prod(weights.shape[2:])
    flat = weights.positions.astype(np.int64) // inner
    return flat // weights.shape[1], flat % weights.shape[1]


def _silenced(graph: Graph) -> Graph:
    """Takes the weights away that lead into or out of neurons which never fire."""
    never = silent(graph)
    quiet: list[np.ndarray] = []  # channels that are 0 at all times
    for place, node in enumerate(graph.nodes):
        width = graph.shapes[place][0]
        match node:
            case Neurons():
                quiet.append(never[place])
            case Pool():
                quiet.append(quiet[node.source])
            case Flatten():
                before = quiet[node.source]
                quiet.append(np.repeat(before, width // len(before)))
            case Add():
                quiet.append(quiet[node.left] & quiet[node.right])
            case _:
                quiet.append(np.zeros(width, bool))
    deaf = {graph.nodes[place].sources[0]: channels for place, channels in never.items()}
    nodes = list(graph.nodes)
    for place, node in enumerate(graph.nodes):
        if not isinstance(node, Conv | Linear):
            continue
        row, channel = _axes(node.weights)
        gone = quiet[node.source][channel]
        bias = node.bias
        if place in deaf and len(graph.readers[place]) == 1:
            gone = gone | deaf[place][row]
            bias = np.where(deaf[place], np.float32(0), bias)
        nodes[place] = replace(node, weights=_without(node.weights, gone), bias=bias)
    return replace(graph, nodes=tuple(nodes))


def _without(weights: Weights, gone: np.ndarray) -> Weights:
    return Weights(weights.shape, weights.positions[~gone], weights.values[~gone])


def _heard(graph: Graph) -> list[np.ndarray]:
    """Returns for every node which of its channels reach the logits by some weight."""
    heard = [np.zeros(shape[0], bool) for shape in graph.shapes]
    heard[-1][:] = True
    for place in range(len(graph.nodes) - 1, 0, -1):
        node, here = graph.nodes[place], heard[place]
        match node:
            case Conv() | Linear():
                row, channel = _axes(node.weights)
                heard[node.source][channel[here[row]]] = True
            case Flatten():
                heard[node.source] |= here.reshape(len(heard[node.source]), -1).any(1)
            case _:
                for source in node.sources:
                    heard[source] |= here
    return heard


def _unheard(graph: Graph) -> Graph:
    """Takes the weights of channels away that nobody reads."""
    nodes = list(graph.nodes)
    for place, here in enumerate(_heard(graph)):
        node = nodes[place]
        if isinstance(node, Conv | Linear):
            row, _ = _axes(node.weights)
            bias = np.where(here, node.bias, np.float32(0))
            nodes[place] = replace(node, weights=_without(node.weights, ~here[row]), bias=bias)
    return replace(graph, nodes=tuple(nodes))


def _narrowed(graph: Graph) -> Graph:
    """Drops channels that nobody reads, wherever all maps that share them can do without."""
    group = list(range(len(graph.nodes)))  # nodes with the same channels

    def top(place: int) -> int:
        while group[place] != place:
            place = group[place]
        return place

    fixed = {0, len(graph.nodes) - 1}
    for place, node in enumerate(graph.nodes):
        if isinstance(node, Conv | Linear | Input):
            continue
        for source in node.sources:
            group[top(place)] = top(source)
        readers = (graph.nodes[r] for r in graph.readers[place])
        if isinstance(node, Flatten) and not all(isinstance(r, Linear) for r in readers):
            fixed.add(place)
    keep = _kept_channels(graph, [top(p) for p in range(len(group))], {top(p) for p in fixed})
    return replace(graph, nodes=tuple(_cut(n, p, keep) for p, n in enumerate(graph.nodes)))


def _kept_channels(graph: Graph, group: Sequence[int], fixed: Iterable[int]) -> list[np.ndarray]:
    """Returns for every node which channels stay; groups of ``fixed`` keep all."""
    heard = _heard(graph)
    together: dict[int, np.ndarray] = {}
    for place, top in enumerate(group):
        if isinstance(graph.nodes[place], Flatten):
            continue
        width = graph.shapes[place][0]
        stays = together.setdefault(top, np.zeros(width, bool))
        stays |= heard[place] if top not in fixed else True
        stays[0] |= not stays.any()  # a map has a channel
    return [
        np.repeat(together[top], graph.shapes[place][0] // len(together[top]))
        if isinstance(graph.nodes[place], Flatten)
        else together[top]
        for place, top in enumerate(group)
    ]


def _cut(node: Node, place: int, keep: Sequence[np.ndarray]) -> Node:
    match node:
        case Conv() | Linear():
            rows, columns = keep[place], keep[node.source]
            row, channel = _axes(node.weights)
            inner = math.prod(node.weights.shape[2:])
            stays = rows[row] & columns[channel]
            new_row, new_column = (np.cumsum(k) - 1 for k in (rows, columns))
            rest = node.weights.positions.astype(np.int64) % inner
            shape = (int(rows.sum()), int(columns.sum()), *node.weights.shape[2:])
            flat = (new_row[row] * shape[1] + new_column[channel]) * inner + rest
            weights = Weights(shape, flat[stays].astype(np.uint32), node.weights.values[stays])
            return replace(node, weights=weights, bias=node.bias[rows])
        case Affine():
            return replace(node, scale=node.scale[keep[place]], shift=node.shift[keep[place]])
    return node
