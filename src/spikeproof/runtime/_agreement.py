"""Whether a packed network answers as the network that it was made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikeproof.errors import Refusal
from spikeproof.ir import Graph, Neurons
from spikeproof.runtime._oracle import trace

Array = np.ndarray
TOLERANCE = 1e-4  # of a logit
ROUNDING = 1e-6  # of a threshold: what sums in float32 lose by their order
AT_ONCE = 8  # samples whose maps are in memory; changes no result


@dataclass(frozen=True)
class Agreement:
    """Samples whose logits are equal to ``TOLERANCE``, and why the others are not.

    In a tie a membrane, computed in float64, lies within ``ROUNDING`` of its threshold, so that the
    order of a sum decides whether it fires. What is no tie is unexplained.
    """

    samples: int = 0
    ties: int = 0  # of those that differ
    unexplained: int = 0
    predictions: int = 0  # of all, those that are another class
    farthest: float = 0.0  # largest difference of a logit where there is no tie

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.samples + other.samples,
            self.ties + other.ties,
            self.unexplained + other.unexplained,
            self.predictions + other.predictions,
            max(self.farthest, other.farthest),
        )

    @property
    def whole(self) -> bool:
        """Whether every difference is a tie's."""
        return not self.unexplained


def agreement(graph: Graph, x: Array, logits: Array, wanted: Array) -> Agreement:
    """Compares the logits of a packed network for a batch with those that another gave."""
    if logits.shape != wanted.shape or len(x) != len(logits):
        raise Refusal(
            f"logits have the forms {logits.shape} and {wanted.shape} for {len(x)} samples; "
            "answers to the same samples have the same form; take the network that was packed"
        )
    apart = np.abs(logits.astype(np.float64) - wanted).max(1, initial=0.0)
    rows = np.flatnonzero(~(apart <= TOLERANCE))
    near = [margins(graph, x[part]) for part in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE))]
    tied = np.zeros(len(x), bool)
    tied[rows] = np.concatenate(near) <= ROUNDING
    return Agreement(
        len(x),
        int(tied.sum()),
        len(rows) - int(tied.sum()),
        int((logits.argmax(1) != wanted.argmax(1)).sum()),
        float(apart[~tied].max(initial=0.0)),
    )


def margins(graph: Graph, x: Array) -> Array:
    """Returns how near a membrane of each sample comes to its threshold, in units of that."""
    found = np.full(len(x), np.inf)
    maps = trace(graph, x, np.float64).maps if len(x) else ()
    for place, node in enumerate(graph.nodes if len(x) else ()):
        if not isinstance(node, Neurons):
            continue
        currents, after = maps[node.source], 0.0
        for t, spikes in enumerate(maps[place]):
            u = node.tau * after + currents[min(t, len(currents) - 1)]
            after = u * (1 - spikes) if node.hard else u - node.theta * spikes
            apart = np.abs(u - node.theta).reshape(len(x), -1).min(1, initial=np.inf)
            found = np.minimum(found, apart / node.theta)
    return found
