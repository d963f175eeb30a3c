"""A network from a NIR file: of ours as it was, of others if our neurons have their dynamics."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any, get_args

import numpy as np

from spikeproof.errors import Refusal, nearest, short
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
    Pair,
    Pool,
    Weights,
)
from spikeproof.ir._to_nir import DT, OWN, check_dt, neuron_arrays, nir_package

Array = np.ndarray
KNOWN = ("Affine", "AvgPool2d", "Conv2d", "Flatten", "IF", "LIF", "Linear", "Scale")


def read_nir(
    path: Path, *, steps: int | None = None, dt: float | None = None, code: Code = "frames"
) -> Graph:
    """Returns the network of a NIR file.

    What NIR does not say, how many ``steps`` are averaged, how long one is and how samples become
    currents, stands in the metadata of files that we wrote. Of other files it is as told here.
    """
    nir = nir_package()
    with path.open("rb"):  # what is absent or barred is told as the system tells it
        pass
    try:
        read = nir.read(path)
    except Exception as error:  # a damaged file raises what its reader likes
        if isinstance(error, MemoryError):
            raise
        raise Refusal(
            f"{path} is no graph of NIR ({type(error).__name__}: {error}); it must be one that "
            "the package nir reads and whose shapes fit; write it anew"
        ) from None
    told = _own(read)
    if steps is None and "steps" not in told:
        raise Refusal(f"{path} does not say how many steps are averaged; NIR cannot; give steps")
    given = {"dt": dt, "steps": steps}
    told = {"dt": DT, "code": code, **told, **{k: v for k, v in given.items() if v is not None}}
    reader = _Reader(read.nodes, read.edges, told)
    try:
        check_dt(float(told["dt"]))
        reader.read()
        return Graph(tuple(reader.made), index(told.get("parameters", 0)))
    except Refusal:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Refusal(
            f"{path} has nodes or metadata that do not fit ({type(error).__name__}: {error}); they "
            "must be as the package nir makes them; write it anew"
        ) from None


def _own(node: Any) -> dict[str, Any]:
    """Returns our metadata of a node; nothing if there is none or it is damaged."""
    try:
        told = json.loads(node.metadata[OWN])
    except (KeyError, TypeError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


@dataclass
class _Reader:
    nodes: Mapping[str, Any]
    edges: list[tuple[str, str]]
    told: Mapping[str, Any]
    made: list[Node] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def read(self) -> None:
        """Makes our nodes of theirs, sources first, in the order of the numbers in their names."""
        ends = [name for name in self.nodes if self._kind(name) == "Output"]
        starts = [name for name in self.nodes if self._kind(name) == "Input"]
        if len(starts) != 1 or len(ends) != 1:
            raise Refusal(
                f"the graph has {len(starts)} inputs and {len(ends)} outputs; a network has one "
                "of each; cut it"
            )
        for name in self._order():
            if name == starts[0]:
                self._input(name)
            elif name != ends[0] and not self._scaled_term(name):
                self.places[name] = self._node(name)
        last = self._sources(ends[0])
        if len(last) != 1 or self.places[last[0]] != len(self.made) - 1:
            raise Refusal(
                f"the output reads {short(last)}; it is that of the last layer; "
                "leave out what is not used"
            )

    def _kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def _sources(self, name: str) -> list[str]:
        return [a for a, b in self.edges if b == name]

    def _order(self) -> list[str]:
        waiting = {name: len(self._sources(name)) for name in self.nodes}
        ready = [_rank(name) for name, count in waiting.items() if not count]
        heapq.heapify(ready)
        order: list[str] = []
        while ready:
            name = heapq.heappop(ready)[-1]
            order.append(name)
            for _, after in (edge for edge in self.edges if edge[0] == name):
                waiting[after] -= 1
                if not waiting[after]:
                    heapq.heappush(ready, _rank(after))
        if len(order) != len(waiting):
            loop = min(name for name, count in waiting.items() if count)
            raise Refusal(f"{loop} feeds itself; our graphs go forward only; cut the loop")
        return order

    def _add(self, node: Node, shape: tuple[int, ...]) -> int:
        self.made.append(node)
        self.shapes[len(self.made) - 1] = shape
        return len(self.made) - 1

    def _input(self, name: str) -> None:
        node, told = self.nodes[name], self.told
        shape = tuple(int(n) for n in node.input_type["input"])
        image = shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)
        noise = node.metadata.get("noise")
        code = told["code"]
        if code not in get_args(Code):
            raise Refusal(
                f"the code of the input is {short(code)}; {nearest(str(code), get_args(Code))}"
            )
        more: dict[str, Any] = {
            key: kind(told[key])
            for key, kind in (("mean", _numbers), ("std", _numbers), ("bits", index))
            if key in told
        }
        weighted = bool(told.get("weighted"))
        made = Input(image, index(told["steps"]), code, **more, weighted=weighted, noise=noise)
        place = self._add(made, image)
        if len(shape) == 1:
            place = self._add(Flatten(place), shape)
        self.places[name] = place

    def _scaled_term(self, name: str) -> bool:
        """Whether a node only scales one term of a sum."""
        readers = [b for a, b in self.edges if a == name]
        return (
            self._kind(name) == "Scale"
            and len(self._sources(name)) == len(readers) == 1
            and len(self._sources(readers[0])) > 1
            and np.unique(self.nodes[name].scale).size == 1
        )

    def _source(self, name: str) -> int:
        """Returns the map that a node reads: the sum of what its edges bring."""
        terms: list[tuple[int, float]] = []
        for before in self._sources(name):
            if self._scaled_term(before):
                values = np.asarray(self.nodes[before].scale, np.float32).flat[0]
                said = _own(self.nodes[before]).get("scale", values)
                scale = float(said if np.float32(said) == values else values)
                terms.append((self.places[self._sources(before)[0]], scale))
            else:
                terms.append((self.places[before], 1.0))
        if not terms:
            raise Refusal(f"{name} reads nothing; every layer has a source; connect it")
        (left, scale), *others = terms
        for right, other in others:
            left = self._add(Add(left, right, (scale, other)), self.shapes[left])
            scale = 1.0
        return left

    def _node(self, name: str) -> int:
        node, kind = self.nodes[name], self._kind(name)
        if kind not in KNOWN:
            raise Refusal(f"{name} is a {kind}; our graphs know {', '.join(KNOWN)}; replace it")
        source = self._source(name)
        shape = tuple(int(n) for n in node.output_type["output"])
        match kind:
            case "IF" | "LIF":
                return self._neurons(name, node, source, shape)
            case "Conv2d":
                return self._conv(name, node, source, shape)
            case "Affine" | "Linear":
                return self._linear(node, source, shape)
            case "AvgPool2d":
                size, stride, padding = map(_pair, (node.kernel_size, node.stride, node.padding))
                return self._add(Pool(source, "avg", size, stride, padding), shape)
            case "Flatten":
                if len(shape) != 1:
                    raise Refusal(
                        f"{name} flattens to {shape}; ours flatten a whole map; "
                        "count its axes without that of the batch"
                    )
                plain = len(self.shapes[source]) == 1
                return source if plain else self._add(Flatten(source), shape)
        return self._scale(name, node, source, shape)

    def _scale(self, name: str, node: Any, source: int, shape: tuple[int, ...]) -> int:
        scale = _per_channel(name, "scale", node.scale, shape)
        if len(self._sources(name)) > 1 and (scale == 1).all():
            return source
        return self._add(Affine(source, scale, np.zeros_like(scale)), shape)

    def _conv(self, name: str, node: Any, source: int, shape: tuple[int, ...]) -> int:
        weight = np.asarray(node.weight, np.float32)
        bias = _bias(node, len(weight))
        if _own(node) and weight.shape[2:] == (1, 1) and _diagonal(weight[:, :, 0, 0]):
            return self._add(Affine(source, np.diag(weight[:, :, 0, 0]).copy(), bias), shape)
        padding = node.padding
        if isinstance(padding, str | bytes) or node.groups != 1 or _pair(node.dilation) != (1, 1):
            raise Refusal(
                f"{name} has groups, dilation or a padding told by a word; our convolutions have "
                "none of them; write it with numbers and one group"
            )
        made = Conv(source, Weights.of(weight), bias, _pair(node.stride), _pair(padding))
        return self._add(made, shape)

    def _linear(self, node: Any, source: int, shape: tuple[int, ...]) -> int:
        weight = np.asarray(node.weight, np.float32)
        bias = _bias(node, len(weight))
        if _own(node) and _diagonal(weight):
            return self._add(Affine(source, np.diag(weight).copy(), bias), shape)
        return self._add(Linear(source, Weights.of(weight), bias), shape)

    def _neurons(self, name: str, node: Any, source: int, shape: tuple[int, ...]) -> int:
        dt, leaky = float(self.told["dt"]), self._kind(name) == "LIF"
        if (said := _exact(node, shape, dt, leaky=leaky)) is not None:
            return self._add(Neurons(source, *said), shape)
        if np.any(node.v_reset):
            raise Refusal(f"{name} resets to another value than 0; ours reset to 0; shift it")
        above = np.nextafter(_one(name, "v_threshold", node.v_threshold), np.float32(np.inf))
        share = dt / float(_one(name, "tau", node.tau)) if leaky else dt
        if leaky and not 0 < share <= 1:
            raise Refusal(
                f"{name} has a time constant of {dt / share} s; a step of Euler's method is "
                f"shorter than that and dt is {dt} s; give a smaller dt"
            )
        gain = _per_channel(name, "r", np.asarray(node.r, np.float64) * share, shape)
        shift = np.zeros_like(gain)
        if leaky:
            shift = _per_channel(name, "v_leak", np.asarray(node.v_leak) * share, shape)
        if not np.allclose(gain, 1, rtol=1e-6, atol=0) or shift.any():
            source = self._add(Affine(source, gain, shift), shape)
        return self._add(Neurons(source, float(above), 1 - share if leaky else 1.0), shape)


def _rank(name: str) -> tuple[int, int, str]:
    """The input first, then by the last number in the name."""
    number = re.search(r"(\d+)\D*$", name)
    return int(name != "input"), int(number[1]) if number else 0, name


def _exact(
    node: Any, shape: tuple[int, ...], dt: float, *, leaky: bool
) -> tuple[float, float] | None:
    """Returns theta and tau as our metadata has them, if the arrays say the same."""
    told = _own(node)
    try:
        theta, tau = float(told["theta"]), float(told["tau"])
        if leaky != (tau < 1):
            return None
        arrays = neuron_arrays(theta, tau, shape, dt)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    same = all(np.array_equal(getattr(node, key), value) for key, value in arrays.items())
    return (theta, tau) if same else None


def _one(name: str, what: str, values: Array) -> np.float32:
    found = np.unique(np.asarray(values, np.float32))
    if found.size != 1:
        raise Refusal(
            f"{name} has {found.size} values of {what}; a layer of our neurons has one; "
            "split the layer"
        )
    return np.float32(found[0])


def _per_channel(name: str, what: str, values: Array, shape: tuple[int, ...]) -> Array:
    full = np.broadcast_to(np.asarray(values, np.float32), shape).reshape(shape[0], -1)
    if (full != full[:, :1]).any():
        raise Refusal(
            f"{name} has a {what} of every neuron; our layers have one of a channel; "
            "average it, or split the layer"
        )
    return full[:, 0].copy()


def _bias(node: Any, count: int) -> Array:
    bias = getattr(node, "bias", None)
    return np.zeros(count, np.float32) if bias is None else np.asarray(bias, np.float32)


def _diagonal(weight: Array) -> bool:
    return np.array_equal(weight, np.diag(np.diag(weight)))


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))


def _pair(value: Any) -> Pair:
    flat = np.broadcast_to(np.asarray(value), 2)
    return int(flat[0]), int(flat[1])
