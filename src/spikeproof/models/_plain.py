"""The small networks: a multilayer perceptron and a convolutional network."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from torch import nn
from typing_extensions import override

from spikeproof.models._setting import Architecture, Parts, Pool, check_channels, pool2


@dataclass(frozen=True)
class MLP(Architecture):
    """Dense layers with norms: flatten - (linear - norm - neurons)* - linear."""

    hidden: tuple[int, ...] = (256,)
    kind: Literal["mlp"] = "mlp"

    def __post_init__(self) -> None:
        check_channels("hidden", *self.hidden)

    @override
    def layers(self, make: Parts) -> nn.Module:
        setting = make.setting
        widths = (setting.channels * setting.size**2, *self.hidden)
        parts: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            parts += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), make.neurons()]
        return nn.Sequential(*parts, nn.Linear(widths[-1], setting.classes))


@dataclass(frozen=True)
class CNN(Architecture):
    """A small network: (conv3 - norm - neurons - pool)* - linear - neurons - linear."""

    channels: tuple[int, ...] = (32, 64)
    hidden: int = 128
    pool: Pool = "avg"
    kind: Literal["cnn"] = "cnn"

    def __post_init__(self) -> None:
        check_channels("channels", *self.channels)
        check_channels("hidden", self.hidden)

    @override
    def layers(self, make: Parts) -> nn.Module:
        setting = make.setting
        side = make.pooled(len(self.channels))
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((setting.channels, *self.channels)):
            parts += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                make.neurons(),
                pool2(self.pool),
            ]
        flat = (self.channels[-1] if self.channels else setting.channels) * side**2
        return nn.Sequential(
            *parts,
            nn.Flatten(),
            nn.Linear(flat, self.hidden),
            make.neurons(),
            nn.Linear(self.hidden, setting.classes),
        )
