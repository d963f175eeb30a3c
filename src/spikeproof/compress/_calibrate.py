"""Thresholds and norm statistics from data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeproof.errors import Refusal, within
from spikeproof.spiking import Spiking, SpikingNetwork, over_time


@dataclass(frozen=True)
class Calibration:
    """Thresholds are ``scale`` times a percentile of the currents of ``steps`` steps (paper B).

    The calibration sees ``batches`` batches of ``batch`` samples.
    """

    percentile: float = 99.7
    steps: int = 100
    scale: float = 0.3
    batches: int = 10
    batch: int = 64

    def __post_init__(self) -> None:
        within("percentile", self.percentile, 0, 100)
        within("steps of calibration", self.steps, 1, 100_000)
        within("scale", self.scale, 1e-6, 1e6)
        within("batches of calibration", self.batches, 1, 1_000_000)
        within("batch of calibration", self.batch, 1, 1_000_000)


@torch.no_grad()
def calibrate(
    network: SpikingNetwork, inputs: Sequence[Tensor], knobs: Calibration | None = None
) -> dict[str, float]:
    """Sets every threshold from the currents that the inputs cause, and returns them by layer.

    Layer by layer in the order of firing, the threshold becomes the largest percentile of the
    layer's current over the batches, while the layers before have theirs already and norms take
    the statistics of each batch. At the end all are multiplied by the scale, and none goes below
    its floor. Event frames bring their own number of steps.
    """
    knobs = knobs or Calibration()
    if not inputs:
        raise Refusal("there are 0 batches; thresholds come from data; give one or more")
    probe = network if network.encode.encoder.events else over_time(network, knobs.steps)
    with _norming_by_batch(probe):
        names = order_of_firing(probe, inputs[0][:2])
        layers = [_learned(probe, name) for name in names]
        for name, (layer, theta) in zip(names, layers, strict=True):
            found = [percentile(*_current(probe, layer, x), knobs.percentile) for x in inputs]
            if not all(map(math.isfinite, found)):
                raise Refusal(
                    f"the current of {name} is not finite; thresholds are; look at the weights "
                    "and the inputs"
                )
            theta.fill_(max(*found, layer.neuron.floor))
    for layer, theta in layers:
        theta.mul_(knobs.scale).clamp_min_(layer.neuron.floor)
    return {name: theta.item() for name, (_, theta) in zip(names, layers, strict=True)}


def percentile(values: Tensor, copies: int, percent: float) -> float:
    """Returns the value of rank ``1 + round(percent/100 (N - 1))`` among ``copies`` of each."""
    flat = values.flatten()
    rank = round(percent / 100 * (copies * flat.numel() - 1))  # from 0
    return flat.kthvalue(rank // copies + 1).values.item()


@torch.no_grad()
def order_of_firing(network: nn.Module, x: Tensor) -> list[str]:
    """Returns the names of the layers of neurons in the order in which they fire."""
    order: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, module in network.named_modules()
        if isinstance(module, Spiking)
    ]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    if len(set(order)) < len(order):
        twice = next(name for name in order if order.count(name) > 1)
        raise Refusal(
            f"the layer of neurons {twice} is used {order.count(twice)} times; each use has its "
            "own currents; give each its own layer"
        )
    return order


@torch.no_grad()
def estimate_norms(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Takes the running statistics of all norms anew: the means over these batches."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # cumulative
        for x in inputs:
            network(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode


def _learned(network: nn.Module, name: str) -> tuple[Spiking, Tensor]:
    layer = network.get_submodule(name)
    if not isinstance(layer, Spiking) or "theta" not in layer.learned:
        raise Refusal(
            f"the threshold of {name} is a constant; a calibrated one is kept with the weights; "
            "build the network from a neuron with learn_theta = true"
        )
    return layer, layer.learned["theta"]


class _Reached(Exception):
    """Ends a forward pass where nothing after it is asked for."""


def _current(network: nn.Module, layer: Spiking, x: Tensor) -> tuple[Tensor, int]:
    """Returns what flows into a layer, and of how many steps each value is the current."""
    reached: list[Tensor] = []

    def stop(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        reached.append(given[0])
        raise _Reached

    hook = layer.register_forward_pre_hook(stop)
    try:
        with suppress(_Reached):
            network(x)
    finally:
        hook.remove()
    return reached[0], layer.T if layer.opens_time else 1


@contextmanager
def _norming_by_batch(network: nn.Module) -> Iterator[None]:
    """Norms by the statistics of each batch and notes none; everything else is in eval mode."""
    modes = [(module, module.training) for module in network.modules()]
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, tracks in zip(norms, tracked, strict=True):
            norm.track_running_stats = tracks
        for module, mode in modes:
            module.training = mode
