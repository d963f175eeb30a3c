"""The networks of the comparisons."""

from __future__ import annotations

import torch
from torch import nn

from spikeproof.models import CNN, VGG11, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import BPTT, LIF, ATan, SpikingNetwork

NEURON = LIF(tau=0.5, rule=BPTT(ATan(2.0), detach_reset=True))


def network(name: str, steps: int, width: float = 1.0) -> SpikingNetwork:
    """Returns the small convolutional network or VGG-11, for CIFAR's shape.

    Fresh weights leave the last layers silent. As in a trained network they are larger here, and
    the norms have seen images.
    """
    small = CNN(tuple(round(width * channels) for channels in (64, 128, 256)), round(256 * width))
    model = build({"small": small, "vgg11": VGG11(width)}[name], Setting(T=steps, neuron=NEURON))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight *= 4
        for norm in norms:
            norm.momentum = 1.0
        model.train()(torch.rand(16, 3, 32, 32, generator=generator(0, "settle")))
        for norm in norms:
            norm.momentum = 0.1
    return model
