"""What a product costs on this machine, by weights and by events; measured once a process."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from spikeproof.ir import Conv, Flatten, Graph, Input, Neurons, Weights
from spikeproof.runtime._loops import WEIGHTED, execute
from spikeproof.runtime._program import Costs, Program, compiled

CHANNELS, SIDE, STEPS = 32, 16, 8
ACTIVE = 0.3  # share of the places that have events while they are timed
REPEATS = 7
MISSES = 1.4  # events reach memory that lies further away in real layers than in the timed one


@cache
def measured() -> Costs:
    """Returns nanoseconds, the least of several repeats, of one layer's parts.

    The choice that they decide changes no bit of an answer.
    """
    graph = _layer()
    kept = graph.weights[0].kept
    by_weights, by_events = (compiled(graph, STEPS, order, Costs()) for order in (0, 1))
    places = CHANNELS * SIDE * SIDE
    quiet, busy = _seconds(by_events, 0.0), _seconds(by_events, ACTIVE)
    op = by_weights.code[by_weights.code["kind"] == WEIGHTED][0]
    vectors = kept * int(op["run"]) / 8
    neurons = _seconds(compiled(_layer(kept=0), STEPS, 0, Costs()), 0.0)
    return Costs(
        weight=1e9 * max(_seconds(by_weights, ACTIVE) - neurons, 1e-9) / vectors,
        event=MISSES * 1e9 * max(busy - quiet, 1e-9) / (ACTIVE * places * kept / CHANNELS),
        scan=MISSES * 1e9 * max(quiet - neurons, 0.0) / places,
    )


def _layer(kept: int = 1000) -> Graph:
    shape = (CHANNELS, CHANNELS, 3, 3)
    places = np.linspace(0, np.prod(shape) - 1, kept).astype(np.uint32)
    weights = Weights(shape, places, np.ones(kept, np.float32))
    return Graph((
        Input((CHANNELS, SIDE, SIDE), STEPS, "frames"),
        Conv(0, weights, np.zeros(CHANNELS, np.float32), padding=(1, 1)),
        Neurons(1, 1.0, 0.5),
        Flatten(2),
    ))  # fmt: skip


def _seconds(program: Program, share: float) -> float:
    arena = np.zeros(program.floats, np.float32)
    inside = program.maps[0].view(arena, STEPS)
    inside[...] = (np.arange(inside[..., 0].size) * share % 1 + share >= 1).reshape(
        *inside.shape[:3], 1
    )
    code = program.code[program.code["kind"] == WEIGHTED]
    actives, chosen = np.zeros(4, np.int64), np.zeros(len(code), np.int64)
    least, begun = np.inf, False
    for _ in range(REPEATS):
        begin = time.perf_counter()
        execute(
            code, arena, program.rows, program.offsets, program.values, program.biases,
            actives, chosen, begun, begun,
        )  # fmt: skip
        least = min(least, time.perf_counter() - begin)
    return float(least)
