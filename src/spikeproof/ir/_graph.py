"""A network as data: nodes over arrays, each naming the earlier nodes that it reads.

A map is (C, H, W) or, flattened, (F,). The last node gives the logits of every step; a network's
answer is their mean over time. Time opens at the input or, under a static code, at the first
neurons, which hold their current for all steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from spikeproof.errors import Refusal, within
from spikeproof.ir._nodes import Conv, Input, Linear, Neurons, Node, Weights
from spikeproof.ir._shapes import check, map_shapes

MOST_NODES = 10_000


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in the order in which they are computed, the input first, logits last."""

    nodes: tuple[Node, ...]
    parameters: int = 0  # of the network that it was made of; 0 where that is not known

    def __post_init__(self) -> None:
        within("the number of nodes", len(self.nodes), 2, MOST_NODES)
        within("the number of parameters", self.parameters, 0, 1 << 53)
        check(self.nodes)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The map that every node gives, for one sample and step."""
        return map_shapes(self.nodes)

    @cached_property
    def timed(self) -> tuple[bool, ...]:
        """Whether time is open after a node, so that there is a map for every step."""
        found: list[bool] = []
        for node in self.nodes:
            opens = isinstance(node, Neurons) or (isinstance(node, Input) and not node.static)
            found.append(opens or any(found[s] for s in node.sources))
        return tuple(found)

    @property
    def input(self) -> Input:
        """The first node."""
        first = self.nodes[0]
        if not isinstance(first, Input):
            raise Refusal(f"the first node is a {first.kind}; a network begins with its input")
        return first

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.shapes[-1][0]

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """The places of the convolutions and dense layers."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Conv | Linear))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Which nodes read a node."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for place, node in enumerate(self.nodes):
            for source in dict.fromkeys(node.sources):
                found[source].append(place)
        return tuple(map(tuple, found))

    @property
    def size(self) -> int:
        """The number of weights that dense layers of these shapes have."""
        return sum(weights.size for weights in self.weights)

    @property
    def kept(self) -> int:
        """The number of weights that are not zero."""
        return sum(weights.kept for weights in self.weights)

    @property
    def weights(self) -> tuple[Weights, ...]:
        """The weights of every convolution and dense layer."""
        return tuple(n.weights for n in self.nodes if isinstance(n, Conv | Linear))
