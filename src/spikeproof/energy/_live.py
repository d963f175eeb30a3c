"""Operations of a network of torch, counted at its layers while it runs.

Torch is imported by the call, so that operations of graphs can be counted without it; tensors and
modules are therefore not named in the annotations.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from spikeproof.energy._operations import Layer, Operations, Reads
from spikeproof.errors import Refusal

AT_ONCE = 32  # samples that run together; changes no count


@dataclass
class _Seen:
    """One layer's sums over samples."""

    events: float = 0.0
    operations: float = 0.0
    dense: float = 0.0
    possible: float = 0.0
    binary: bool = True
    analog: bool = False


def live_operations(model: Any, x: Any) -> Operations:
    """Returns the operations of a batch, as means over its samples, in the order of calls.

    Weights that are exactly zero count as absent. What the sensor's values reach before any
    neuron is analog.
    """
    import torch
    from torch import nn

    from spikeproof.spiking import Spiking

    if not len(x):
        raise Refusal("the batch is empty; a mean needs a sample; give one or more")
    encoder = getattr(getattr(model, "encode", None), "encoder", None)
    analog = getattr(encoder, "analog", True) or getattr(encoder, "weighted", False)
    seen: dict[str, _Seen] = {}
    updates = [0.0, 0.0]
    fired: list[bool] = []
    called: dict[int, int] = {}  # in the order in which they run

    def neurons(layer: Any, _: Any, spikes: Any) -> None:
        fired.append(True)
        updates[0] += spikes.numel()
        updates[1] += spikes.numel() if float(layer.tau) < 1 else 0

    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            if isinstance(module, Spiking):
                hooks.callback(module.register_forward_hook(neurons).remove)
        for name, module in layers.items():
            seen[name] = _Seen()
            watch = _watch(seen[name], fired, called, analog=analog)
            hooks.callback(module.register_forward_pre_hook(watch).remove)
        for part in x.split(AT_ONCE):
            fired.clear()
            model(part)
    order = sorted(seen, key=lambda name: called.get(id(layers[name]), len(called)))
    rows = (_row(name, layers[name], seen[name], len(x)) for name in order)
    return Operations(tuple(rows), updates[0] / len(x), updates[1] / len(x))


def _watch(seen: _Seen, fired: list[bool], called: dict[int, int], *, analog: bool) -> Any:
    def hook(layer: Any, inputs: tuple[Any]) -> None:
        import torch

        (x,) = inputs
        called.setdefault(id(layer), len(called))
        there = (x != 0).double()
        ones = torch.ones_like(layer.weight, dtype=torch.float64)
        dense = _fan_out(layer, x, ones)
        seen.events += float(there.sum())
        seen.operations += float((there * _fan_out(layer, x, (layer.weight != 0).double())).sum())
        seen.dense += float((there * dense).sum())
        seen.possible += float(dense.sum()) * len(x)
        seen.binary = seen.binary and bool(((x == 0) | (x == 1)).all())
        seen.analog = seen.analog or (analog and not fired)

    return hook


def _fan_out(layer: Any, x: Any, weight: Any) -> Any:
    """Returns how many weights each value meets: the derivative of their sum."""
    import torch
    from torch import nn
    from torch.nn import functional

    with torch.enable_grad():
        one = torch.zeros_like(x[:1], dtype=torch.float64, requires_grad=True)
        if isinstance(layer, nn.Linear):
            out = functional.linear(one, weight)
        else:
            shape = layer.stride, layer.padding, layer.dilation, layer.groups
            out = functional.conv2d(one, weight, None, *shape)
        (met,) = torch.autograd.grad(out.sum(), one)
    return met


def _row(name: str, layer: Any, seen: _Seen, samples: int) -> Layer:
    reads: Reads = "analog" if seen.analog else "spikes" if seen.binary else "graded"
    return Layer(
        name,
        reads,
        seen.events / samples,
        seen.operations / samples,
        seen.dense / samples,
        seen.possible / samples,
        int((layer.weight != 0).sum()),
        layer.weight.numel(),
    )
