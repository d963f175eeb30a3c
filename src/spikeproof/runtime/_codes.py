"""Input codes in numpy, bit for bit those of ``spikeproof.spiking`` but for the mean of frames."""

from __future__ import annotations

import numpy as np

from spikeproof.errors import Refusal
from spikeproof.ir import Input

Array = np.ndarray


def check_input(node: Input, x: Array) -> None:
    """Refuses what is no batch of inputs of this network."""
    axes = ("T", "C", "H", "W") if node.events else ("C", "H", "W")
    wanted = node.shape
    given = x.shape[2:] if node.events else x.shape[1:]
    if x.ndim != 1 + len(axes) or given != wanted:
        raise Refusal(
            f"input of shape {x.shape}; this network takes (B, {', '.join(axes)}) with (C, H, W) = "
            f"{wanted}; bring the samples into that form"
        )
    if x.dtype != np.float32:
        raise Refusal(f"input is {x.dtype}; it must be float32; convert it")


def encoded(node: Input, x: Array, steps: int, first: int = 0) -> Array:
    """Returns the steps from ``first`` on, (steps, B, C, H, W); a static code has one for all.

    Event frames are those of these steps alone.
    """
    check_input(node, x)
    if node.events and node.code == "frames" and x.shape[1] != steps:
        raise Refusal(f"{x.shape[1]} frames; {steps} steps are run; frame the events anew")
    if not node.events and not node.static and first + steps > node.steps:
        raise Refusal(
            f"step {first + steps} of a code of T = {node.steps} steps; an encoded image ends "
            "there; pack the model with a larger T"
        )
    if node.analog:
        mean, std = (np.array(v, x.dtype).reshape(-1, 1, 1) for v in (node.mean, node.std))
        x = (x - mean) / std
    match node.code:
        case "direct":
            return x[None]
        case "averaged":
            return x.mean(1, dtype=x.dtype)[None]
        case "frames":
            return np.swapaxes(x, 0, 1)
    return np.stack([_spikes(node, x, t) for t in range(first, first + steps)])


def _spikes(node: Input, x: Array, t: int) -> Array:
    one = x.dtype.type
    match node.code:
        case "phase":
            top = 2**node.bits - 1
            level = np.clip(np.rint(x * one(top)), 0, top).astype(np.int64)
            digit = (level >> (node.bits - 1 - t % node.bits)) & 1
            weight = 2.0 ** -(1 + t % node.bits) if node.weighted else 1.0
            return digit.astype(x.dtype) * one(weight)
        case "rate":
            before, due = (np.floor(x * one(s) + one(1e-6)) for s in (t, t + 1))
            return np.clip(due - before, 0, 1)
        case "latency":
            last = node.steps - 1
            time = np.clip(np.rint(one(last) * (1 - x)), 0, last)
            return (time == t).astype(x.dtype)
    if node.noise is None:
        raise Refusal(f"code {node.code} has no noise; a Poisson code has; pack the model again")
    return (node.noise[t] < x).astype(x.dtype)
