"""A network as an ONNX file: one batch in, logits out, its T steps one after the other.

Only operators that every runtime has; weights stand in the file once and are read by every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from spikeproof.errors import Refusal
from spikeproof.ir._graph import Graph
from spikeproof.ir._nodes import Add, Affine, Conv, Flatten, Input, Linear, Neurons, Node, Pool
from spikeproof.records import replace_file

OPSET = 17
IR_VERSION = 8  # what runtimes of the same age read
MOST_BYTES = 2**31 - 1  # of a protocol buffer


def write_onnx(path: Path, graph: Graph) -> None:
    """Writes a network with its normalisation, its code and its mean over time.

    The input ``x`` is a batch of samples as the network takes them, ``logits`` is (B, K).
    """
    onnx = _package()
    unrolled = _Unrolled(onnx)
    logits = unrolled.run(graph)
    size = sum(constant.ByteSize() for constant in unrolled.constants)
    if size > MOST_BYTES:
        raise Refusal(
            f"the weights take {size:,} bytes; a file of ONNX has up to {MOST_BYTES:,}; "
            "export a smaller network, or a packed one"
        )
    entrance = graph.input
    frames = ((entrance.steps,) if entrance.code == "frames" else ("T",)) if entrance.events else ()
    number = onnx.TensorProto.FLOAT
    info = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        unrolled.nodes,
        "spikeproof",
        [info("x", number, ["B", *frames, *entrance.shape])],
        [info(logits, number, ["B", graph.classes])],
        unrolled.constants,
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opset, producer_name="spikeproof")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    replace_file(path, lambda part: part.write_bytes(model.SerializeToString(deterministic=True)))


def _package() -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise Refusal(
            f"the package onnx cannot be imported ({error}); its files are written by it; "
            "pip install 'spikeproof[exchange]'"
        ) from None
    return onnx


@dataclass
class _Unrolled:
    """Operators, constants, and what every node of the network gives in each step."""

    onnx: ModuleType
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    known: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def run(self, graph: Graph) -> str:
        """Unrolls the network and returns the name of its logits."""
        maps: list[list[str]] = []  # of every node: one name a step, or one for all
        for node, timed in zip(graph.nodes, graph.timed, strict=True):
            if isinstance(node, Input):
                maps.append(self.coded(node))
            elif isinstance(node, Neurons):
                held = maps[node.source]
                steps = held * (graph.input.steps // len(held))
                maps.append(self.fire(node, steps))
            else:
                given = [maps[source] for source in node.sources]
                count = graph.input.steps if timed else 1
                wide = len(graph.shapes[node.sources[0]]) == 3
                maps.append([self.apply(node, [g[t] for g in given], wide) for t in range(count)])
        last = maps[-1]
        total = self.op("Sum", *last) if len(last) > 1 else last[0]
        self.nodes.append(
            self.onnx.helper.make_node("Div", [total, self.number(len(last))], ["logits"])
        )
        return "logits"

    def op(self, kind: str, *given: str, **settings: Any) -> str:
        """Adds an operator and returns the name of what it gives."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(given), [name], name, **settings))
        return name

    def constant(self, values: np.ndarray) -> str:
        """Returns the name of a constant; equal ones are one."""
        key = str(values.dtype), values.shape, values.tobytes()
        if key not in self.known:
            self.known[key] = f"constant_{len(self.constants)}"
            tensor = self.onnx.numpy_helper.from_array(values, self.known[key])
            self.constants.append(tensor)
        return self.known[key]

    def number(self, value: float) -> str:
        """Returns the name of a number."""
        return self.constant(np.array(value, np.float32))

    def fire(self, node: Neurons, currents: list[str]) -> list[str]:
        """Neurons that start at rest, as the reference kernel computes them."""
        zero, theta = self.number(0), self.number(node.theta)
        spikes: list[str] = []
        after = ""
        for current in currents:
            u = current
            if after and node.tau:
                kept = after if node.tau == 1 else self.op("Mul", after, self.number(node.tau))
                u = self.op("Add", kept, current)
            fired = self.op("GreaterOrEqual", u, theta)
            spikes.append(self.op("Cast", fired, to=self.onnx.TensorProto.FLOAT))
            reset = zero if node.hard else self.op("Sub", u, theta)
            after = self.op("Where", fired, reset, u)
        return spikes

    def apply(self, node: Node, given: list[str], wide: bool) -> str:  # noqa: FBT001
        """One stateless layer in one step; ``wide`` maps have height and width."""
        match node:
            case Conv():
                around = self.window(node.weights.shape[2:], node.stride, node.padding)
                return self.op("Conv", *given, *self.arrays(node), **around)
            case Linear():
                return self.op("Gemm", *given, *self.arrays(node), transB=1)
            case Pool():
                around = self.window(node.size, node.stride, node.padding)
                if node.how == "max":
                    return self.op("MaxPool", *given, **around)
                return self.op("AveragePool", *given, count_include_pad=1, **around)
            case Affine():
                form = (-1, 1, 1) if wide else (-1,)
                scale, shift = (self.constant(v.reshape(form)) for v in (node.scale, node.shift))
                return self.op("Add", self.op("Mul", *given, scale), shift)
            case Add():
                terms = [
                    name if scale == 1 else self.op("Mul", name, self.number(scale))
                    for name, scale in zip(given, node.scales, strict=True)
                ]
                return self.op("Add", *terms)
            case Flatten():
                return self.op("Flatten", *given, axis=1)
        raise Refusal(f"a {node.kind} is no layer of a step; ONNX has none; leave it out")

    def arrays(self, node: Conv | Linear) -> tuple[str, str]:
        """The names of weights and biases."""
        return self.constant(node.weights.dense()), self.constant(node.bias)

    def window(
        self, size: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
    ) -> dict[str, Any]:
        """The attributes of a window."""
        pads = [*padding, *padding]
        return {"kernel_shape": list(size), "strides": list(stride), "pads": pads}

    def coded(self, node: Input) -> list[str]:
        """Normalisation and code: the currents of every step, or one for all."""
        x = "x"
        if node.analog:
            mean, std = (
                self.constant(np.array(v, np.float32).reshape(-1, 1, 1))
                for v in (node.mean, node.std)
            )
            x = self.op("Div", self.op("Sub", x, mean), std)
        match node.code:
            case "direct":
                return [x]
            case "averaged":
                return [self.op("ReduceMean", x, axes=[1], keepdims=0)]
            case "frames":
                places = (self.constant(np.array(t, np.int64)) for t in range(node.steps))
                return [self.op("Gather", x, place, axis=1) for place in places]
        return [self.spikes(node, t) for t in range(node.steps)]

    def spikes(self, node: Input, t: int) -> str:
        """The spikes that a step of a code makes of pixels."""
        to = self.onnx.TensorProto.FLOAT
        match node.code:
            case "phase":
                return self.digit(node, t)
            case "rate":
                before, due = (
                    self.op("Floor", self.op("Add", self.op("Mul", "x", self.number(s)), tiny))
                    for tiny in (self.number(1e-6),)
                    for s in (t, t + 1)
                )
                return self.op("Clip", self.op("Sub", due, before), *map(self.number, (0, 1)))
            case "latency":
                last = self.number(node.steps - 1)
                late = self.op("Mul", last, self.op("Sub", self.number(1), "x"))
                time = self.op("Clip", self.op("Round", late), self.number(0), last)
                return self.op("Cast", self.op("Equal", time, self.number(t)), to=to)
        if node.noise is None:
            raise Refusal(f"code {node.code} has no noise; a Poisson code has; lower it again")
        return self.op("Cast", self.op("Less", self.constant(node.noise[t]), "x"), to=to)

    def digit(self, node: Input, t: int) -> str:
        """One binary digit of the pixel's level, the largest first."""
        top = self.number(2**node.bits - 1)
        level = self.op("Clip", self.op("Round", self.op("Mul", "x", top)), self.number(0), top)
        shifted = self.op(
            "Floor", self.op("Div", level, self.number(2 ** (node.bits - 1 - t % node.bits)))
        )
        digit = self.op("Mod", shifted, self.number(2), fmod=1)
        weight = 2.0 ** -(1 + t % node.bits)
        return self.op("Mul", digit, self.number(weight)) if node.weighted else digit
