"""What surrounds an architecture (input, time, neurons), and how the two become a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn

from spikeproof import seeding
from spikeproof.errors import Refusal, short, within
from spikeproof.spiking import (
    IF,
    LIF,
    Averaged,
    AvgPool2d,
    Direct,
    Encode,
    Encoder,
    Frames,
    Gate,
    Gates,
    Spiking,
    SpikingNetwork,
)

Pool = Literal["avg", "max"]

MOST_CHANNELS = 65_536
MOST_WEIGHTS = 1_000_000_000  # 4 GB; sixteen times the largest network of the papers


@dataclass(frozen=True)
class Setting:
    """The input, the time and the neuron of a network; ``neuron=None`` makes the analog twin."""

    channels: int = 3
    size: int = 32
    classes: int = 10
    T: int = 8
    neuron: LIF | None = field(default_factory=IF)
    encoder: Encoder = field(default_factory=Direct)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    gates: Gates | None = None  # after every layer of neurons

    def __post_init__(self) -> None:
        within("channels", self.channels, 1, MOST_CHANNELS)
        within("size", self.size, 1, 4096)
        within("classes", self.classes, 2, MOST_CHANNELS)
        within("T", self.T, 1, 10_000)
        if len(self.mean) not in (1, self.channels) or len(self.std) != len(self.mean):
            raise Refusal(
                f"{len(self.mean)} means and {len(self.std)} deviations for {self.channels} "
                "channels; there is one of each, or one a channel; take the training set's"
            )
        for mean, std in zip(self.mean, self.std, strict=True):
            within("mean", mean, -1e12, 1e12)
            within("std", std, 1e-12, 1e12)


class Architecture(ABC):
    """Numbers that make the layers of a network."""

    kind: str

    @abstractmethod
    def layers(self, make: Parts) -> nn.Module:
        """Returns the layers from the first convolution to the logits, on (T*B, ...)."""


class Parts:
    """Makes the layers that depend on the setting; asked for in the order of the forward pass.

    Under a static encoder the first layer of neurons opens time.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._time_is_open = not setting.encoder.static
        self._gates = 0

    def neurons(self) -> nn.Module:
        """Returns the next layer of neurons, or its analog twin."""
        if self.setting.neuron is None:
            return nn.ReLU()
        opens, self._time_is_open = not self._time_is_open, True
        neurons = Spiking(self.setting.neuron, self.setting.T, opens_time=opens)
        if self.setting.gates is None:
            return neurons
        self._gates += 1
        return nn.Sequential(neurons, Gate(self.setting.gates, self.setting.T, self._gates))

    def pooled(self, pools: int) -> int:
        """Returns the side of the map after halving it this often."""
        side = self.setting.size >> pools
        if side < 1:
            raise Refusal(
                f"input of {self.setting.size} pixels a side is halved {pools} times by this "
                f"network, which needs {1 << pools} or more; choose a shallower model"
            )
        return side


def build(architecture: Architecture, setting: Setting, seed: int = 0) -> SpikingNetwork:
    """Returns the network with fresh weights: He-normal (fan-out) convolutions, zero biases."""
    normalise = setting.encoder.analog
    setting = _analog(setting) if setting.neuron is None else setting
    _check_weights(architecture, setting)
    with seeding.isolated(seed, "weights"):
        layers = architecture.layers(Parts(setting))
        for module in layers.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    mean, std = (setting.mean, setting.std) if normalise else ((0.0,), (1.0,))
    network = SpikingNetwork(Encode(setting.encoder, setting.T, mean, std), layers)
    if setting.gates is not None:
        _open_gates(network, setting)
    return network


def _open_gates(network: SpikingNetwork, setting: Setting) -> None:
    """Lets a black input show every gate the shape of its rates."""
    time = (setting.T,) if setting.encoder.events else ()
    with torch.no_grad():
        network.eval()(torch.zeros(1, *time, setting.channels, setting.size, setting.size))
    network.train()


def _check_weights(architecture: Architecture, setting: Setting) -> None:
    with torch.device("meta"), seeding.isolated(0):
        weights = prunable_weights(architecture.layers(Parts(setting)))
    if weights > MOST_WEIGHTS:
        raise Refusal(
            f"{short(architecture)} has {weights:,} weights; networks of up to {MOST_WEIGHTS:,} "
            "are built; take fewer channels or a smaller width"
        )


def analog_twin(setting: Setting) -> Setting:
    """Returns the setting of the ANN with the same parameter names: ReLU, no time."""
    return replace(setting, neuron=None)


def _analog(setting: Setting) -> Setting:
    encoder = Averaged() if isinstance(setting.encoder, Frames | Averaged) else Direct()
    return replace(setting, encoder=encoder, T=1)


def pool2(kind: Pool) -> nn.Module:
    """Returns the 2x2 pooling of this kind."""
    return AvgPool2d() if kind == "avg" else nn.MaxPool2d(2)


def scaled(channels: int, width: float) -> int:
    """Returns a channel count times the width multiplier."""
    if round(channels * width) < 1:
        raise Refusal(
            f"width is {width}; {channels} channels times it are none; take at least "
            f"{math.ceil(1000 / channels) / 1000}"
        )
    return round(channels * width)


def check_width(width: float) -> None:
    """Refuses a width multiplier that makes no network or a monstrous one."""
    if not 0 < width <= 64:
        raise Refusal(f"width is {short(width)}; it must be above 0 and at most 64; take 1.0")


def check_channels(name: str, *counts: int) -> None:
    """Refuses numbers of channels or neurons that no layer can have."""
    if len(counts) > 100:
        raise Refusal(f"{name} has {len(counts)} numbers, one a layer; give at most 100")
    for count in counts:
        within(name, count, 1, MOST_CHANNELS)


def prunable_weights(model: nn.Module) -> int:
    """Returns the number of convolution and dense weights, biases and norms left out."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
