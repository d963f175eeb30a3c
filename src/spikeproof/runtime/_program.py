"""A graph laid out for the engine's loops: one arena for all maps, one table of operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikeproof.errors import Refusal
from spikeproof.ir import Add, Affine, Conv, Flatten, Graph, Input, Linear, Neurons, Pool
from spikeproof.runtime._layout import Map, Run, Window, lanes_of, unravelled
from spikeproof.runtime._loops import (
    ADD,
    AFFINE,
    AVG,
    BLOCKS,
    COPY,
    MAX,
    NEURONS,
    OP,
    SPLIT,
    WEIGHTED,
)
from spikeproof.runtime._vectors import LANES

SLACK = 4096  # floats behind the last map that the last block of a run may read
MOST_FLOATS = 1 << 31

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Program:
    """What ``execute`` takes, and where input, maps and membranes are."""

    code: Array
    rows: Array  # where the weights of a channel begin
    offsets: Array
    values: Array
    biases: Array
    floats: int  # size of the arena
    maps: dict[int, Map]
    places: dict[int, int]  # of a node that has operations: which one ends it


@dataclass(frozen=True)
class Costs:
    """Nanoseconds: of a vector by weights, of one by events, of a place that is looked at."""

    weight: float = 0.35
    event: float = 0.9
    scan: float = 1.0


def compiled(graph: Graph, steps: int, execution: int, costs: Costs) -> Program:
    """Lays a graph out for this many steps.

    ``execution`` 0 is weight by weight, 1 event by event, 2 whichever costs less.
    """
    return _Layout(graph, steps, execution, costs).program()


@dataclass
class _Layout:
    graph: Graph
    steps: int
    execution: int
    costs: Costs
    floats: int = 0
    maps: dict[int, Map] = field(default_factory=dict)
    ops: list[dict[str, Any]] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    counted: dict[int, int] = field(default_factory=dict)  # of a flat map: the one it comes from
    rows: list[Array] = field(default_factory=list)
    offsets: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    biases: list[Array] = field(default_factory=list)

    def program(self) -> Program:
        graph = self.graph
        for place, node in enumerate(graph.nodes):
            match node:
                case Input():
                    self.maps[place] = self._map(place)
                case Conv() | Linear():
                    if not self._fused(place):
                        self._weighted(place, node, None)
                case Neurons():
                    self._neurons(place, node)
                case Flatten():
                    self._flatten(place, node)
                case Pool():
                    self._pool(place, node)
                case Affine() | Add():
                    self._elementwise(place, node)
        return self._finished()

    def _finished(self) -> Program:
        runs = [op for op in self.ops if "run" in op]
        scratch = self._take(max((op["scratch_size"] for op in runs), default=0))
        firing = [op for op in self.ops if op.get("fires")]
        spikes = self._take(max((op["spikes_size"] for op in firing), default=0))
        resting = self._take(max((op["state_plane"] for op in firing), default=0))
        for op in firing:
            op["state"] = self._take(op["channels"] * op["state_plane"])
        self._take(SLACK)
        if self.floats >= MOST_FLOATS:
            raise Refusal(
                f"the network needs {4 * self.floats:,} bytes for its maps; the engine has "
                f"{4 * MOST_FLOATS:,}; take a smaller one"
            )
        code = np.zeros(len(self.ops), OP)
        for row, op in zip(code, self.ops, strict=True):
            given = {"scratch": scratch, "spikes": spikes, "resting": resting, **op}
            for name in given.keys() & set(OP.names or ()):
                row[name] = given[name]
        return Program(
            code,
            _joined(self.rows, np.int64),
            _joined(self.offsets, np.int32),
            _joined(self.values, np.float32),
            _joined(self.biases, np.float32),
            self.floats,
            self.maps,
            self.places,
        )

    def _take(self, floats: int) -> int:
        begin = self.floats
        self.floats += -(-floats // 16) * 16
        return begin

    def _map(self, place: int, beside: Map | None = None) -> Map:
        """Makes room for a node's map, with the zeros that its readers or its neighbour need."""
        shape, graph = self.graph.shapes[place], self.graph
        readers = (graph.nodes[reader] for reader in graph.readers[place])
        pads = [max(r.padding) for r in readers if isinstance(r, Conv) and r.stride == (1, 1)]
        high, wide = shape[1:] if len(shape) == 3 else (1, 1)
        lanes = lanes_of(self.steps) if graph.timed[place] else 1
        if beside is not None and beside.wide == wide:
            pads.append(beside.pad)  # rows at the same distance need not be moved
        planned = Map(0, shape[0], high, wide, lanes, max(pads, default=0))
        at = self._take(planned.channels * planned.plane + (planned.pad + LANES) * lanes)
        return Map(at, shape[0], high, wide, lanes, planned.pad)

    def _emit(self, place: int, target: Map, **op: Any) -> None:
        self.maps[place] = target
        self.places[place] = len(self.ops)
        self.ops.append({
            "dst": target.origin, "dst_plane": target.plane, "dst_pitch": target.pitch,
            "dst_lanes": target.lanes, "channels": target.channels, "rows": target.high,
            "cols": target.wide, "lanes": target.lanes, "steps": self.steps, "place": place, **op,
        })  # fmt: skip

    def _fused(self, place: int) -> bool:
        readers = self.graph.readers[place]
        return len(readers) == 1 and isinstance(self.graph.nodes[readers[0]], Neurons)

    def _neurons(self, place: int, node: Neurons) -> None:
        before = self.graph.nodes[node.source]
        firing = {"fires": 1, "hard": node.hard, "theta": node.theta, "tau": node.tau}
        if isinstance(before, Conv | Linear) and self._fused(node.source):
            self._weighted(node.source, before, (place, firing))
            return
        source = self.maps[node.source]
        target = self._map(place, source)
        self._emit(
            place, target, kind=NEURONS, src=source.origin, src_plane=source.plane,
            src_pitch=source.pitch, src_lanes=source.lanes,
            **firing, **_room_for_neurons(target, source.pitch),
        )  # fmt: skip

    def _flat(self, place: int, source: Map) -> Map:
        """Emits a copy of a map as a row of features."""
        count = source.channels * source.high * source.wide
        planned = Map(0, count, 1, 1, source.lanes, 0)
        target = Map(self._take(count * planned.plane), count, 1, 1, source.lanes, 0)
        self._moved(place, source, target, (source.high, source.wide), (0, 0), COPY, target.plane)
        return target

    def _moved(
        self, place: int, source: Map, target: Map, step: tuple[int, int], pad: tuple[int, int],
        kind: int, phase_plane: int,
    ) -> None:  # fmt: skip
        self.ops.append({
            "kind": kind, "src": source.origin, "src_plane": source.plane,
            "src_pitch": source.pitch, "dst": target.origin, "dst_pitch": target.pitch,
            "dst_plane": phase_plane * step[0] * step[1], "window_y": phase_plane,
            "channels": source.channels, "high": source.high, "wide": source.wide,
            "lanes": source.lanes, "step_y": step[0], "step_x": step[1],
            "pad_y": pad[0], "pad_x": pad[1], "place": place,
        })  # fmt: skip

    def _flatten(self, place: int, node: Flatten) -> None:
        source = self.maps[node.source]
        readers = [self.graph.nodes[reader] for reader in self.graph.readers[place]]
        if not readers or not all(isinstance(reader, Linear) for reader in readers):
            source = self._flat(node.source, source)
        self.maps[place] = source
        self.counted[place] = self.counted.get(node.source, node.source)

    def _pool(self, place: int, node: Pool) -> None:
        source = self.maps[node.source]
        self._emit(
            place, self._map(place), kind=MAX if node.how == "max" else AVG, src=source.origin,
            src_plane=source.plane, src_pitch=source.pitch, high=source.high, wide=source.wide,
            window_y=node.size[0], window_x=node.size[1], step_y=node.stride[0],
            step_x=node.stride[1], pad_y=node.padding[0], pad_x=node.padding[1],
        )  # fmt: skip

    def _elementwise(self, place: int, node: Affine | Add) -> None:
        source = self.maps[node.sources[0]]
        target = self._map(place)
        op: dict[str, Any] = {
            "src": source.origin, "src_plane": source.plane, "src_pitch": source.pitch,
        }  # fmt: skip
        if isinstance(node, Add):
            other = self.maps[node.right]
            left, right = node.scales
            op |= {
                "kind": ADD, "src2": other.origin, "src2_plane": other.plane,
                "src2_pitch": other.pitch, "left": left, "right": right,
            }  # fmt: skip
        else:
            op |= {"kind": AFFINE, "bias": self._biases(node.scale, node.shift)}
        self._emit(place, target, **op)

    def _biases(self, *values: Array) -> int:
        begin = sum(map(len, self.biases))
        self.biases += values
        return begin

    def _weighted(
        self, place: int, node: Conv | Linear, firing: tuple[int, dict[str, Any]] | None
    ) -> None:
        source = self.maps[node.source]
        run, window = self._source_run(node, source)
        outputs, high, wide = self.graph.shapes[place], 1, 1
        if len(outputs) == 3:
            high, wide = outputs[1:]
        target = self._map(firing[0] if firing else place, source if firing else None)
        lanes, pitch = source.lanes, run.pitch
        floats = ((high - 1) * pitch + wide) * lanes
        vectors = -(-floats // LANES)
        passes = -(-vectors // BLOCKS[-1])
        block = next(b for b in BLOCKS if b * passes >= vectors)
        above = (window.kernel[0] - 1) // window.step[0] + 1
        below = (source.high + window.pad[0]) // window.step[0] + 2
        plane = -(-(above + below + 1) * pitch * lanes // LANES) * LANES
        total = block * -(-vectors // block) * LANES
        weights, costs = node.weights, self.costs
        axes = unravelled(node, source, window)
        by_weights = self._rows_of(
            weights.values, axes.output, weights.shape[0],
            axes.channel * run.plane + axes.phase * run.phase_plane + axes.fold * lanes,
        )  # fmt: skip
        phases = window.step[0] * window.step[1]
        by_events = self._rows_of(
            weights.values, axes.channel * phases + axes.phase, source.channels * phases,
            axes.output * plane - axes.reach * lanes,
        )  # fmt: skip
        op = {
            "kind": WEIGHTED, "execution": self.execution, "src": run.at, "src_pitch": pitch,
            "src_lanes": lanes, "run": total, "block": block,
            "first": by_weights, "bias": self._biases(node.bias),
            "scratch_plane": plane, "scratch_start": above * pitch * lanes,
            "scratch_size": max(weights.shape[0] * plane, above * pitch * lanes + total) + SLACK,
            "in_channels": source.channels, "in_first": by_events, "in_plane": source.plane,
            "in_pitch": source.pitch, "in_at": source.origin, "high": source.high,
            "wide": source.wide, "step_y": window.step[0], "step_x": window.step[1],
            "pad_y": window.pad[0], "pad_x": window.pad[1],
            "source": self.counted.get(node.source, node.source),
            "weight_cost": costs.weight * weights.kept * total / LANES,
            "event_cost": costs.event * weights.kept / (source.channels * phases)
            * -(-lanes // LANES),
            "scan_cost": costs.scan * source.channels * source.high * source.wide,
        }  # fmt: skip
        if firing:
            op |= firing[1] | _room_for_neurons(target, pitch)
        self._emit(firing[0] if firing else place, target, **op)

    def _source_run(self, node: Conv | Linear, source: Map) -> tuple[Run, Window]:
        """Returns where runs of a layer are read: in the map, or in a copy that undoes a stride."""
        if isinstance(node, Linear):
            sides = (source.high, source.wide)
            return Run(source.origin, source.plane, 0, 1), Window(sides, sides, (0, 0))
        kernel = (node.weights.shape[2], node.weights.shape[3])
        window = Window(kernel, node.stride, node.padding)
        if node.stride == (1, 1):
            down, right = (source.pad - p for p in node.padding)
            at = source.at + (down * source.pitch + right) * source.lanes
            return Run(at, source.plane, 0, source.pitch), window
        padded = [s + 2 * p for s, p in zip((source.high, source.wide), node.padding, strict=True)]
        high, wide = (-(-s // step) for s, step in zip(padded, node.stride, strict=True))
        wide += (kernel[1] - 1) // node.stride[1]  # what events reach beyond a row
        phases = node.stride[0] * node.stride[1]
        planned = Map(0, source.channels * phases, high, wide, source.lanes, 0)
        copy = Map(
            self._take(planned.channels * planned.plane), planned.channels, high, wide,
            source.lanes, 0,
        )  # fmt: skip
        self._moved(node.source, source, copy, node.stride, node.padding, SPLIT, copy.plane)
        return Run(copy.at, copy.plane * phases, copy.plane, copy.pitch), window

    def _rows_of(self, values: Array, row: Array, count: int, offsets: Array) -> int:
        """Stores weights row by row, within a row in their order; returns where its table is."""
        order = np.argsort(row, kind="stable")
        begin = sum(map(len, self.values))
        table = sum(map(len, self.rows))
        ends = begin + np.cumsum(np.bincount(row, minlength=count))
        self.rows.append(np.concatenate([[begin], ends]))
        self.offsets.append(offsets[order])
        self.values.append(values[order])
        return table


def _room_for_neurons(target: Map, pitch: int) -> dict[str, int]:
    count = (target.high - 1) * pitch + target.wide
    places = -(-count // LANES) * LANES
    return {"state_plane": places, "spikes_size": places * target.lanes + SLACK}


def _joined(parts: list[Array], dtype: type[np.generic]) -> Array:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)
