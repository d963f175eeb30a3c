"""What the tests of robust objectives train, and on what."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import IF


def network(*, analog: bool = False) -> nn.Module:
    setting = Setting(channels=1, size=8, classes=3, T=3, neuron=IF(theta=0.2))
    if analog:
        setting = Setting(channels=1, size=8, classes=3, T=1, neuron=None)
    return build(MLP((12,)), setting).double().train()


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    x = torch.rand((count, 1, 8, 8), generator=generator(1, "images"), dtype=torch.float64)
    return x, torch.arange(count) % 3
