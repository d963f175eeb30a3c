"""Which map every node gives, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spikeproof.errors import Refusal
from spikeproof.ir._nodes import (
    MOST_VALUES,
    Add,
    Affine,
    Conv,
    Flatten,
    Input,
    Linear,
    Neurons,
    Node,
    Pair,
    Pool,
)

Shape = tuple[int, ...]


def check(nodes: Sequence[Node]) -> None:
    """Refuses nodes that make no network, or one too large to be run."""
    for place, node in enumerate(nodes):
        if isinstance(node, Input) != (place == 0):
            raise Refusal(f"node {place} is a {node.kind}; the input comes first and once; move it")
        if any(not 0 <= source < place for source in node.sources):
            raise Refusal(
                f"node {place} reads {node.sources}; a node reads earlier ones; put it after them"
            )
    if len(last := map_shapes(nodes)[-1]) != 1:
        raise Refusal(f"the last node gives {last}; logits are one row; flatten before it")


def map_shapes(nodes: Sequence[Node]) -> tuple[Shape, ...]:
    """Returns the shape of every node's map, channels first."""
    shapes: list[Shape] = []
    time: list[int] = []  # the number of maps a sample has
    steps = next(n.steps for n in nodes if isinstance(n, Input))
    for place, node in enumerate(nodes):
        given = [shapes[source] for source in node.sources]
        shapes.append(_shape(place, node, given))
        opens = isinstance(node, Neurons) or (isinstance(node, Input) and not node.static)
        before = {time[source] for source in node.sources}
        if len(before) > 1:
            raise Refusal(
                f"node {place} adds a map that has time to one that has none; both have it or "
                "neither; add behind the first neurons"
            )
        time.append(steps if opens else before.pop() if before else 1)
        if math.prod(shapes[-1]) * time[-1] > MOST_VALUES:
            raise Refusal(
                f"node {place} gives {time[-1]} maps {shapes[-1]}; up to {MOST_VALUES:,} values "
                "are computed; take a smaller network"
            )
    return tuple(shapes)


def _shape(place: int, node: Node, given: Sequence[Shape]) -> Shape:
    match node:
        case Input():
            return node.shape
        case Conv():
            _need(place, node, given[0], 3)
            outputs, inputs, *size = node.weights.shape
            _channels(place, node, given[0], inputs)
            sides = _sides(place, node, given[0], (size[0], size[1]))
            return (outputs, *sides)
        case Pool():
            _need(place, node, given[0], 3)
            return (given[0][0], *_sides(place, node, given[0], node.size))
        case Linear():
            _need(place, node, given[0], 1)
            _channels(place, node, given[0], node.weights.shape[1])
            return node.weights.shape[:1]
        case Affine():
            _channels(place, node, given[0], len(node.scale))
            return given[0]
        case Add():
            if given[0] != given[1]:
                raise Refusal(f"node {place} adds {given[0]} and {given[1]}; they must be alike")
            return given[0]
        case Flatten():
            return (math.prod(given[0]),)
        case Neurons():
            return given[0]


def _need(place: int, node: Node, shape: Shape, rank: int) -> None:
    if len(shape) != rank:
        raise Refusal(
            f"node {place}, a {node.kind}, reads a map {shape}; it needs {rank} axes; "
            "flatten before dense layers and nowhere else"
        )


def _channels(place: int, node: Node, shape: Shape, wanted: int) -> None:
    if shape[0] != wanted:
        raise Refusal(
            f"node {place}, a {node.kind}, reads {shape[0]} channels and takes {wanted}; "
            "they must be equal; correct the weights"
        )


def _sides(place: int, node: Conv | Pool, shape: Shape, size: Pair) -> tuple[int, ...]:
    sides = []
    for side, window, step, around in zip(shape[1:], size, node.stride, node.padding, strict=True):
        if side + 2 * around < window:
            raise Refusal(
                f"node {place}, a {node.kind}, has a window of {window} on a side of {side}; "
                "it must fit; take a larger input"
            )
        sides.append((side + 2 * around - window) // step + 1)
    return tuple(sides)
