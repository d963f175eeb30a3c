"""A network as a NIR file, the interchange format of neuromorphic tools (neuroir.org).

NIR tells equations of continuous time, we tell steps: a step of ``dt`` seconds by Euler's method
is ``v <- v + dt / tau (v_leak - v + r I)``. So ``u <- tau_s u + x`` is a LIF with
``tau = dt / (1 - tau_s)`` and ``r = tau / dt``, and for ``tau_s = 1`` an IF with ``r = 1 / dt``.
NIR fires above ``v_threshold`` and we fire from ``theta`` on: the threshold written is the
largest float32 below theta.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from spikeproof.errors import Refusal, within
from spikeproof.ir._graph import Graph
from spikeproof.ir._nodes import Add, Affine, Conv, Flatten, Input, Linear, Neurons, Node, Pool
from spikeproof.records import replace_file

Array = np.ndarray
OWN = "spikeproof"  # the metadata that only we read
DT = 1e-4  # seconds; what most readers of NIR take


def nir_package() -> ModuleType:
    """Returns the package ``nir``, which is an extra."""
    try:
        import nir
    except ImportError as error:
        raise Refusal(
            f"the package nir cannot be imported ({error}); files of NIR are read and written by "
            "it; pip install 'spikeproof[exchange]'"
        ) from None
    return nir


def write_nir(path: Path, graph: Graph, *, dt: float = DT) -> None:
    """Writes what follows the input code as a NIR graph, which ``read_nir`` gives back the same.

    Its input is that of one step, normalised and coded; its answer the logits of that step. How
    samples are coded and how many steps are averaged stands in metadata. Soft resets and pools of
    maxima are refused: NIR has no words for them.
    """
    nir = nir_package()
    check_dt(dt)
    writer = _Writer(nir, graph, dt)
    for place, node in enumerate(graph.nodes):
        writer.add(place, node)
    writer.nodes["output"] = nir.Output(_shape("output", graph.shapes[-1]))
    writer.edges.append((writer.names[-1], "output"))
    try:
        made = nir.NIRGraph(writer.nodes, writer.edges, {OWN: _told(graph, dt)})
    except ValueError as error:  # its rule of shapes is that of square windows
        raise Refusal(
            f"NIR finds shapes that do not fit ({error}); its windows are squares; "
            "take kernels and pools that are"
        ) from None
    replace_file(path, lambda part: nir.write(part, made))


def check_dt(dt: float) -> None:
    """Refuses what is no length of a step."""
    within("dt", dt, 1e-9, 1e3)


def neuron_arrays(theta: float, tau: float, shape: tuple[int, ...], dt: float) -> dict[str, Array]:
    """Returns what NIR says of neurons: of an IF if there is no ``tau``, else of a LIF."""
    below = np.nextafter(np.float32(theta), np.float32(-np.inf))
    numbers = {"r": 1 / dt} if tau == 1 else {"tau": dt / (1 - tau), "r": 1 / (1 - tau)}
    if tau < 1:
        numbers["v_leak"] = 0.0
    numbers |= {"v_threshold": below, "v_reset": 0.0}
    return {name: np.full(shape, value, np.float32) for name, value in numbers.items()}


def _told(graph: Graph, dt: float) -> str:
    node = graph.input
    told = {name: getattr(node, name) for name in ("steps", "code", "mean", "std", "bits")}
    return json.dumps(
        {**told, "weighted": node.weighted, "parameters": graph.parameters, "dt": dt},
        sort_keys=True,
    )


def _shape(name: str, shape: tuple[int, ...]) -> dict[str, Array]:
    return {name: np.array(shape)}


@dataclass
class _Writer:
    nir: ModuleType
    graph: Graph
    dt: float
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, place: int, node: Node) -> None:
        """Adds a node, its edges, and the scales of a sum."""
        name = "input" if place == 0 else f"{node.kind}_{place}"
        self.names.append(name)
        self.nodes[name] = self._node(place, node)
        if isinstance(node, Add):
            for side, source, scale in zip(
                ("left", "right"), node.sources, node.scales, strict=True
            ):
                self._branch(name, side, source, scale, twice=side == "right")
        else:
            self.edges += [(self.names[source], name) for source in node.sources]

    def _branch(self, name: str, side: str, source: int, scale: float, *, twice: bool) -> None:
        before = self.names[source]
        if scale != 1 or (twice and (before, name) in self.edges):
            branch = f"{name}_{side}"
            values = np.full(self.graph.shapes[source], scale, np.float32)
            told = json.dumps({"scale": scale})
            self.nodes[branch] = self.nir.Scale(values, metadata={OWN: told})
            self.edges.append((before, branch))
            before = branch
        self.edges.append((before, name))

    def _node(self, place: int, node: Node) -> Any:
        shape = self.graph.shapes[place]
        given = self.graph.shapes[node.sources[0]] if node.sources else shape
        match node:
            case Input():
                more = {} if node.noise is None else {"noise": node.noise}
                return self.nir.Input(_shape("input", shape), metadata=more)
            case Conv():
                window = given[1:], node.weights.dense(), node.stride, node.padding
                return self.nir.Conv2d(*window, dilation=(1, 1), groups=1, bias=node.bias)
            case Linear():
                return self.nir.Affine(node.weights.dense(), node.bias)
            case Neurons():
                return self._neurons(place, node, shape)
            case Pool():
                if node.how == "max":
                    raise Refusal(
                        f"node {place} pools maxima; NIR has average pools only; train with "
                        'pool = "avg", or export to onnx'
                    )
                return self.nir.AvgPool2d(*map(np.array, (node.size, node.stride, node.padding)))
            case Affine():
                return self._affine(node, given)
            case Flatten():
                return self.nir.Flatten(_shape("input", given), start_dim=0, end_dim=-1)
        return self.nir.Scale(np.ones(shape, np.float32))  # of a sum: NIR adds what edges bring

    def _neurons(self, place: int, node: Neurons, shape: tuple[int, ...]) -> Any:
        if not node.hard:
            raise Refusal(
                f"the neurons of node {place} subtract their threshold; NIR resets to a value; "
                'train with reset = "hard", or export to onnx'
            )
        kind = self.nir.IF if node.tau == 1 else self.nir.LIF
        told = json.dumps({"theta": node.theta, "tau": node.tau})
        arrays = neuron_arrays(node.theta, node.tau, shape, self.dt)
        return kind(**arrays, metadata={OWN: told})

    def _affine(self, node: Affine, given: tuple[int, ...]) -> Any:
        told, weight = {OWN: json.dumps({"kind": "affine"})}, np.diag(node.scale)
        if len(given) == 1:
            return self.nir.Affine(weight, node.shift, metadata=told)
        window = given[1:], weight[:, :, None, None], (1, 1), (0, 0)
        return self.nir.Conv2d(*window, dilation=(1, 1), groups=1, bias=node.shift, metadata=told)
