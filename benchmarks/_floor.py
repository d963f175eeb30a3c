"""The convolutions and linears of a step alone, each in its faster layout."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from benchmarks._timing import timed
from torch import Tensor, nn

from spikeproof import seeding


class Met(NamedTuple):
    """A layer with the shape that it is given, and its multiply-adds forwards."""

    layer: nn.Module
    shape: tuple[int, ...]
    operations: int


class Part(NamedTuple):
    """A layer with an input, in a layout."""

    layer: nn.Module
    x: Tensor
    wanted: list[Tensor]


def met(model: nn.Module, x: Tensor) -> list[Met]:
    """Returns the convolutions and linears in the order of the forward pass."""
    found = []

    def note(layer: Any, given: tuple[Tensor, ...], out: Tensor) -> None:
        operations = out.numel() * layer.weight[0].numel()
        found.append(Met(layer, tuple(given[0].shape), operations))

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


class Floor:
    """Forward and backward of each layer; an attack asks for no gradient of weights."""

    def __init__(
        self,
        layers: list[Met],
        low: AbstractContextManager[Any],
        device: str,
        *,
        attack: bool,
        times: int,
    ) -> None:
        self.low, self.times, self.parts = low, times, []
        for layer in layers:
            first = layer is layers[0]
            layouts = [torch.contiguous_format, torch.channels_last][: len(layer.shape) // 2]
            parts = [_part(layer, layout, device, attack, first) for layout in layouts]
            self.parts.append(min(parts, key=lambda part: self._probe(part, device)))

    def _probe(self, part: Part, device: str) -> float:
        return sorted(timed(lambda: self._run(part), device) for _ in range(3))[1]

    def _run(self, part: Part) -> None:
        with self.low:
            out = part.layer(part.x)
        torch.autograd.grad(out, part.wanted, torch.ones_like(out))

    def __call__(self) -> None:
        for _ in range(self.times):
            for part in self.parts:
                self._run(part)


def _part(given: Met, layout: Any, device: str, attack: bool, first: bool) -> Part:  # noqa: FBT001
    layer = copy.deepcopy(given.layer).to(memory_format=layout).requires_grad_(not attack)
    x = torch.rand(given.shape, generator=seeding.generator(0, "floor")).to(device)
    x = x.contiguous(memory_format=layout).requires_grad_(attack or not first)
    return Part(layer, x, [p for p in (x, *layer.parameters()) if p.requires_grad])
