"""The dense oracle: the network in plain numpy, slow, and with nothing left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from spikeproof.ir import Add, Affine, Conv, Flatten, Graph, Input, Linear, Neurons, Node, Pool
from spikeproof.runtime._codes import encoded

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Trace:
    """Logits (B, K) and what every node gave: (steps, B, ...), one step where time is not open."""

    logits: Array
    maps: tuple[Array, ...]


def trace(graph: Graph, x: Array, dtype: type[np.floating] = np.float32) -> Trace:
    """Runs a batch step by step from rest; in float64 rounding plays no part."""
    maps: list[Array] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            maps.append(encoded(node, x, node.steps).astype(dtype))
        else:
            maps.append(_apply(node, [maps[s] for s in node.sources], graph.input.steps))
    return Trace(maps[-1].mean(0), tuple(maps))


def _apply(node: Node, given: list[Array], steps: int) -> Array:
    x = given[0]
    dtype = x.dtype
    match node:
        case Conv():
            return _convolved(node, x)
        case Linear():
            weight, bias = node.weights.dense().astype(dtype), node.bias.astype(dtype)
            return x @ weight.T + bias
        case Neurons():
            return fire(node, np.broadcast_to(x, (steps, *x.shape[1:])))
        case Pool():
            fill = -np.inf if node.how == "max" else 0
            windows = _windows(_padded(x, node.padding, fill), node.size, node.stride)
            return windows.max((-2, -1)) if node.how == "max" else windows.mean((-2, -1))
        case Affine():
            scale, shift = (
                v.astype(dtype).reshape(-1, *[1] * (x.ndim - 3)) for v in (node.scale, node.shift)
            )
            return x * scale + shift
        case Add():
            left, right = (dtype.type(s) for s in node.scales)
            return left * x + right * given[1]
        case Flatten():
            return x.reshape(*x.shape[:2], -1)
    return x


def fire(node: Neurons, currents: Array) -> Array:
    """Returns the spikes of neurons that start at rest, as the reference kernel computes them."""
    theta, tau = (currents.dtype.type(value) for value in (node.theta, node.tau))
    after = np.zeros_like(currents[0])
    spikes = np.empty_like(currents)
    for t, current in enumerate(currents):
        u = tau * after + current
        spikes[t] = u - theta >= 0
        after = u * (1 - spikes[t]) if node.hard else u - theta * spikes[t]
    return spikes


def _convolved(node: Conv, x: Array) -> Array:
    weight = node.weights.dense().astype(x.dtype)
    windows = _windows(_padded(x, node.padding, 0), weight.shape[2:], node.stride)
    summed = np.tensordot(windows, weight, ((2, 5, 6), (1, 2, 3)))
    return np.moveaxis(summed, -1, 2) + node.bias.astype(x.dtype)[:, None, None]


def _padded(x: Array, padding: tuple[int, int], fill: float) -> Array:
    sides = [(0, 0)] * 3 + [(p, p) for p in padding]
    return np.pad(x, sides, constant_values=fill)


def _windows(x: Array, size: tuple[int, ...], stride: tuple[int, int]) -> Array:
    found = sliding_window_view(x, size, (-2, -1))
    return found[..., :: stride[0], :: stride[1], :, :]
