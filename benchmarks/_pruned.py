"""A VGG-16 that is sparse at random and fires as often as the published ones.

Norms take the statistics of the images, thresholds are set layer by layer so that every layer
fires at the rate that the figure of paper B shows for it at 90 % uniform sparsity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeproof.models import VGG16, Setting, build
from spikeproof.spiking import IF, Spiking, SpikingNetwork

RATES = (1.7, 1.1, 1.5, 0.6, 0.9, 0.65, 0.25, 0.25, 0.95, 0.2, 3.9, 4.25, 2.4, 2.5, 3.85)
"""Spikes per neuron and inference of eight steps, first layer first."""


def pruned_vgg16(sparsity: float, images: Tensor, width: float = 1.0) -> SpikingNetwork:
    """Returns the network of eight steps."""
    setting = Setting(T=8, neuron=IF(learn_theta=True, floor=1e-6))
    net = build(VGG16(width), setting).eval()
    drawn = torch.Generator().manual_seed(7)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer in layers:
            dropped = torch.rand(layer.weight.shape, generator=drawn) < sparsity
            layer.weight[dropped] = 0
        for module in net.layers:
            _fitted(net, module, images)
        firing = [m for m in net.modules() if isinstance(m, Spiking)]
        for neurons, spikes in zip(firing, RATES, strict=True):
            _tuned(net, neurons, images, spikes)
    return net


def _input(net: SpikingNetwork, module: nn.Module, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(images)
    hook.remove()
    return seen[0]


def _fitted(net: SpikingNetwork, module: nn.Module, images: Tensor) -> None:
    """Gives a norm the statistics of the images."""
    if isinstance(module, nn.BatchNorm2d):
        x = _input(net, module, images)
        module.running_mean.copy_(x.mean((0, 2, 3)))
        module.running_var.copy_(x.var((0, 2, 3)) + 1e-6)


def _tuned(net: SpikingNetwork, neurons: Spiking, images: Tensor, spikes: float) -> None:
    """Sets a threshold by bisection so that a neuron fires this often."""
    currents = neurons.unfolded(_input(net, neurons, images))
    low, high = 1e-5, 1e3
    for _ in range(14):  # more would end at a membrane that occurs, a tie
        middle = (low * high) ** 0.5
        neurons.learned["theta"].fill_(middle)
        fired = float(neurons.run(currents)[0].sum(0).mean())
        low, high = (middle, high) if fired > spikes else (low, middle)
