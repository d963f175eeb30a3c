"""A recorder of spikes and gradients that leaves no hook behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikeproof.spiking._neurons import Spiking

Hook = TypeVar("Hook", bound=Callable[..., None])


@dataclass(frozen=True, eq=False)
class Gradient:
    """Statistics of the gradient at a layer's current, one number per sample."""

    zeros: Tensor  # share of entries that are exactly 0
    l1: Tensor
    l2: Tensor
    largest: Tensor


@dataclass(eq=False)
class LayerRecord:
    """What one layer did, one number per sample, in the order in which samples came."""

    T: int
    neurons: int = 0
    _spikes: list[Tensor] = field(default_factory=list)
    _gradients: list[Tensor] = field(default_factory=list)
    _trains: list[Tensor] = field(default_factory=list)

    @property
    def spikes(self) -> Tensor:
        """Spikes of every sample over all neurons and steps."""
        return torch.cat([torch.empty(0, dtype=torch.float64), *self._spikes])

    @property
    def rate(self) -> Tensor:
        """Spikes per neuron and step of every sample, between 0 and 1."""
        return self.spikes / (self.T * max(self.neurons, 1))

    @property
    def trains(self) -> Tensor:
        """Which neuron spiked when, (samples, T, neurons), where that was asked for."""
        return torch.cat([torch.empty(0, self.T, self.neurons, dtype=torch.bool), *self._trains])

    @property
    def gradient(self) -> Gradient:
        """Statistics of every backward pass that reached the layer, in their order."""
        nothing = torch.empty(4, 0, dtype=torch.float64)
        zeros, l1, l2, largest = torch.cat([nothing, *self._gradients], 1)
        return Gradient(zeros, l1, l2, largest)


@contextmanager
def recorded(
    model: nn.Module, *, gradients: bool = False, trains: bool = False
) -> Iterator[Mapping[str, LayerRecord]]:
    """Records every layer of neurons in the block, by its name in the model.

    Gradients are those of whatever backward pass runs inside the block; a sample's numbers do
    not depend on its batch as long as the loss is a sum over samples. ``trains`` keeps every
    spike, a byte each.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, Spiking)}
    records = {name: LayerRecord(layer.T) for name, layer in layers.items()}
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(_count(records[name], trains=trains)).remove)
            if gradients:
                watch = _watch(records[name], hooks)
                hooks.callback(layer.register_forward_pre_hook(watch).remove)
        yield records


def forget_recorder(module: nn.Module) -> None:
    """Takes the recorder's hooks off a copy of a module that was made while it recorded."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [k for k, hook in hooks.items() if hasattr(hook, "records")]:
            del hooks[key]


def _count(record: LayerRecord, *, trains: bool) -> Callable[[Spiking, Any, Tensor], None]:
    def hook(layer: Spiking, _: Any, output: Tensor) -> None:
        spikes = output.detach().unflatten(0, (layer.T, -1))
        record.T, record.neurons = layer.T, spikes[0, 0].numel()
        record._spikes.append(spikes.sum(0).flatten(1).sum(1).double().cpu())
        if trains:
            record._trains.append(spikes.ne(0).transpose(0, 1).flatten(2).cpu())

    return _marked(hook, record)


def _watch(record: LayerRecord, hooks: ExitStack) -> Callable[[Spiking, tuple[Tensor]], None]:
    def hook(layer: Spiking, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        if x.requires_grad:
            steps = 1 if layer.opens_time else layer.T
            hooks.callback(x.register_hook(lambda g: _measure(record, g, steps)).remove)

    return _marked(hook, record)


def _marked(hook: Hook, record: LayerRecord) -> Hook:
    vars(hook)["records"] = record
    return hook


def _measure(record: LayerRecord, gradient: Tensor, steps: int) -> None:
    g = gradient.detach().unflatten(0, (steps, -1)).transpose(0, 1).flatten(1).double()
    size = g.abs()
    rows = (g.eq(0).double().mean(1), size.sum(1), g.norm(dim=1), size.amax(1))
    record._gradients.append(torch.stack(rows).cpu())
