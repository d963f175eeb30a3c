"""Networks of every kind, with norms that do something and weights that are sparse."""

from __future__ import annotations

import torch
from torch import nn

from spikeproof.models import (
    CNN,
    MLP,
    VGG11,
    VGG16,
    WRN,
    Setting,
    SEWResNet,
    SpikingResNet,
    build,
)
from spikeproof.spiking import LIF, Frames, Phase, Poisson

SIDE = 16
NETWORKS = {
    "mlp": (MLP((32,)), {}),
    "cnn": (CNN((8, 8), 16), {}),
    "cnn-max-phase": (CNN((8, 8), 16, pool="max"), {"encoder": Phase(weighted=True)}),
    "cnn-poisson": (CNN((8, 8), 16), {"encoder": Poisson()}),
    "cnn-frames": (CNN((8, 8), 16), {"encoder": Frames()}),
    "vgg16": (VGG16(width=0.1), {}),
    "vgg11": (VGG11(width=0.05), {}),
    "wrn": (WRN(10, 1, width=0.5), {}),
    "sew": (SEWResNet(18, width=0.1), {}),
    "sew-avg": (SEWResNet(18, width=0.1, pool="avg"), {}),
    "sew50": (SEWResNet(50, width=0.1), {}),
    "spiking-resnet": (SpikingResNet(18, width=0.1), {}),
}


def made(name, steps, *, share=0.4, reset="hard", tau=0.7):
    """The network and a batch of three inputs."""
    architecture, more = NETWORKS[name]
    neuron = LIF(tau=tau, theta=0.7, reset=reset)
    setting = Setting(
        T=steps, size=SIDE, neuron=neuron, mean=(0.3, 0.4, 0.5), std=(0.2, 0.25, 0.3), **more
    )
    net = build(architecture, setting, seed=1).eval()
    drawn = torch.Generator().manual_seed(5)

    def between(low, high, tensor):
        tensor.data.copy_(torch.rand(tensor.shape, generator=drawn) * (high - low) + low)

    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            between(-0.2, 0.2, module.running_mean)
            between(0.3, 1.5, module.running_var)
            between(0.5, 1.5, module.weight)
            between(-0.3, 0.7, module.bias)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            kept = torch.rand(parameter.shape, generator=drawn) < share
            parameter.data *= kept * 1.5
    shape = (3, 3, SIDE, SIDE)
    if name == "cnn-frames":
        shape = (3, steps, 3, SIDE, SIDE)
    return net, torch.rand(shape, generator=drawn)
