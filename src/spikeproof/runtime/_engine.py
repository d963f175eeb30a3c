"""The sparse engine: what is zero is neither stored nor multiplied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock

import numpy as np

from spikeproof.errors import Refusal, short, within
from spikeproof.ir import Graph, Neurons
from spikeproof.runtime._codes import check_input, encoded
from spikeproof.runtime._costs import measured
from spikeproof.runtime._loops import execute
from spikeproof.runtime._program import Costs, Program, compiled

Array = np.ndarray
ORDERS = {"weights": 0, "events": 1, "auto": 2}
ALIGNED = 16  # floats of a cache line


@dataclass(frozen=True, eq=False)
class State:
    """Where a stream stands: how many steps have passed, and the membranes of every layer."""

    elapsed: int = 0
    membranes: Mapping[int, Array] = field(default_factory=dict)  # by node, (B, ...)


@dataclass(eq=False)
class Activity:
    """What a run did, summed over samples."""

    samples: int = 0
    events: dict[int, Array] = field(default_factory=dict)  # by node: non-zero values, (C, H, W)
    spikes: dict[int, float] = field(default_factory=dict)  # by layer of neurons
    by_events: dict[int, int] = field(default_factory=dict)  # by layer: samples executed so


class Engine:
    """Runs a graph on batches of float32, every sample on its own and on one thread.

    Each layer is executed weight by weight or event by event, whichever is cheaper for the number
    of events that arrive; both give the same bits. Compiled code is kept on disk by Numba.
    """

    def __init__(self, graph: Graph, execution: str = "auto", threads: int | None = None) -> None:
        if execution not in ORDERS:
            raise Refusal(f"execution is {short(execution)}; choose auto, weights or events")
        self.graph = graph
        self.execution = execution
        self.threads = threads if threads is not None else os.cpu_count() or 1
        within("threads", self.threads, 1, 1024)
        self._programs: dict[int, Program] = {}
        self._arenas: dict[int, SimpleQueue[Array]] = {}

    def __deepcopy__(self, _: object) -> Engine:
        """Returns another engine of the same graph, which never changes."""
        return Engine(self.graph, self.execution, self.threads)

    def __call__(self, x: Array, activity: Activity | None = None) -> Array:
        """Returns the logits (B, K); ``activity``, where given, takes what happened on the way."""
        steps, _ = self._run(x, self.graph.input.steps, State(), activity, after=False)
        return steps.mean(0)

    def steps(self, x: Array) -> Array:
        """Returns the logits of every step, (T, B, K)."""
        return self._run(x, self.graph.input.steps, State(), None, after=False)[0]

    def stream(self, x: Array, steps: int, state: State | None = None) -> tuple[Array, State]:
        """Returns the logits of the next ``steps`` steps and the state after them.

        Images are given whole at every call, event frames as the part that has arrived.
        """
        within("steps", steps, 1, 10_000)
        if self.graph.input.code == "averaged":
            raise Refusal(
                "the network sees the mean of all frames; a stream has no end to average to; "
                "run it on whole recordings"
            )
        return self._run(x, steps, state or State(), None, after=True)

    def _run(
        self, x: Array, steps: int, state: State, activity: Activity | None, *, after: bool
    ) -> tuple[Array, State]:
        entrance = self.graph.input
        check_input(entrance, x)
        if not len(x):
            raise Refusal("the batch is empty; logits belong to samples; give one or more")
        program = self._program(steps)
        codes = encoded(entrance, x, steps, state.elapsed)
        logits = np.empty((steps, len(x), self.graph.classes), np.float32)
        membranes = self._membranes(len(x), state) if after or state.elapsed else {}
        adding = Lock()

        def one(i: int) -> None:
            arena = self._arena(steps, program)
            if state.elapsed:
                _hand_in(program, arena, membranes, i)
            begun = state.elapsed > 0
            chosen = _execute(program, arena, codes[:, i], begun=begun, kept=after or begun)
            last = program.maps[len(self.graph.nodes) - 1].view(arena, steps)
            logits[:, i] = last.reshape(self.graph.classes, -1).T
            if after:
                _hand_out(program, arena, membranes, i)
            if activity is not None:
                with adding:
                    self._add_activity(activity, program, arena, chosen)
            self._arenas[steps].put(arena)

        if self.threads == 1 or len(x) == 1:
            for i in range(len(x)):
                one(i)
        else:
            with ThreadPoolExecutor(min(self.threads, len(x))) as pool:
                list(pool.map(one, range(len(x))))
        return logits, State(state.elapsed + steps, membranes)

    def _program(self, steps: int) -> Program:
        if steps not in self._programs:
            costs = measured() if self.execution == "auto" else Costs()
            order = ORDERS[self.execution]
            self._programs[steps] = compiled(self.graph, steps, order, costs)
            self._arenas[steps] = SimpleQueue()
        return self._programs[steps]

    def _arena(self, steps: int, program: Program) -> Array:
        """Returns an arena that no thread uses; its zeros around maps are never written."""
        try:
            return self._arenas[steps].get_nowait()
        except Empty:
            whole = np.zeros(program.floats + ALIGNED, np.float32)
            begin = (-whole.ctypes.data // whole.itemsize) % ALIGNED
            return whole[begin : begin + program.floats]

    def _membranes(self, count: int, state: State) -> dict[int, Array]:
        """Returns membranes of a batch: those of the state, copied, or of neurons at rest."""
        found = {}
        for place, node in enumerate(self.graph.nodes):
            if isinstance(node, Neurons):
                shape = (count, *self.graph.shapes[place])
                before = state.membranes.get(place)
                if before is not None and before.shape != shape:
                    raise Refusal(
                        f"the state of node {place} is {before.shape}; this batch needs {shape}; "
                        "hand each stream the state that its last call gave"
                    )
                found[place] = np.zeros(shape, np.float32) if before is None else before.copy()
        return found

    def _add_activity(
        self, activity: Activity, program: Program, arena: Array, chosen: Array
    ) -> None:
        activity.samples += 1
        steps = self.graph.input.steps
        for place, node in enumerate(self.graph.nodes):
            if isinstance(node, Neurons):
                spikes = float(program.maps[place].view(arena, steps).sum(dtype=np.float64))
                activity.spikes[place] = activity.spikes.get(place, 0.0) + spikes
            if place in self.graph.weighted:
                source = node.sources[0]
                events = np.count_nonzero(program.maps[source].view(arena, steps), axis=-1)
                events = events.reshape(self.graph.shapes[source])
                activity.events[place] = activity.events.get(place, 0) + events
                # A layer whose neurons were computed with it is found by their place.
                readers = [place, *self.graph.readers[place]]
                op = next(program.places[r] for r in readers if r in program.places)
                activity.by_events[place] = activity.by_events.get(place, 0) + int(chosen[op])


def _execute(program: Program, arena: Array, code: Array, *, begun: bool, kept: bool) -> Array:
    """Runs one sample, (steps, C, H, W), and returns which operations went event by event."""
    entrance = program.maps[0]
    entrance.view(arena, len(code))[...] = np.moveaxis(code, 0, -1)
    actives = np.zeros(max(program.maps) + 1, np.int64)
    actives[0] = code.any(0).sum()
    chosen = np.zeros(len(program.code), np.int64)
    execute(
        program.code, arena, program.rows, program.offsets, program.values, program.biases,
        actives, chosen, begun, kept,
    )  # fmt: skip
    return chosen


def _membrane(program: Program, arena: Array, place: int) -> Array:
    """Returns the membranes of a layer, (C, H, W), as a view of the arena."""
    op = program.code[program.places[place]]
    begin, plane, pitch = (int(op[name]) for name in ("state", "state_plane", "src_pitch"))
    shape = (int(op["channels"]), int(op["rows"]), int(op["cols"]))
    strides = [n * arena.itemsize for n in (plane, pitch, 1)]
    return np.lib.stride_tricks.as_strided(arena[begin:], shape, strides)


def _hand_in(program: Program, arena: Array, membranes: Mapping[int, Array], sample: int) -> None:
    for place, values in membranes.items():
        inside = _membrane(program, arena, place)
        inside[...] = values[sample].reshape(inside.shape)


def _hand_out(program: Program, arena: Array, membranes: dict[int, Array], sample: int) -> None:
    for place, values in membranes.items():
        values[sample] = _membrane(program, arena, place).reshape(values[sample].shape)
