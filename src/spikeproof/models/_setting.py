"""What surrounds an architecture (input, time, neurons), and how the two become a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from spikeproof import seeding
from spikeproof.errors import Refusal
from spikeproof.spiking import (
    IF,
    LIF,
    Averaged,
    Direct,
    Encode,
    Encoder,
    Frames,
    Spiking,
    SpikingNetwork,
)

Pool = Literal["avg", "max"]


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

    def __post_init__(self) -> None:
        if min(self.channels, self.size, self.T) < 1 or self.classes < 2:
            raise Refusal(
                f"{self.channels} channels, size {self.size}, T = {self.T} and {self.classes} "
                "classes; the first three are at least 1 and there are two classes or more; "
                "take them from the data set"
            )
        if len(self.mean) not in (1, self.channels):
            raise Refusal(
                f"{len(self.mean)} means for {self.channels} channels; give one, or one a channel"
            )


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

    def neurons(self) -> nn.Module:
        """Returns the next layer of neurons, or its analog twin."""
        if self.setting.neuron is None:
            return nn.ReLU()
        opens, self._time_is_open = not self._time_is_open, True
        return Spiking(self.setting.neuron, self.setting.T, opens_time=opens)

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
    with seeding.isolated(seed, "weights"):
        layers = architecture.layers(Parts(setting))
        for module in layers.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    mean, std = (setting.mean, setting.std) if normalise else ((0.0,), (1.0,))
    return SpikingNetwork(Encode(setting.encoder, setting.T, mean, std), layers)


def analog_twin(setting: Setting) -> Setting:
    """Returns the setting of the ANN with the same parameter names: ReLU, no time."""
    return replace(setting, neuron=None)


def _analog(setting: Setting) -> Setting:
    encoder = Averaged() if isinstance(setting.encoder, Frames | Averaged) else Direct()
    return replace(setting, encoder=encoder, T=1)


def pool2(kind: Pool) -> nn.Module:
    """Returns the 2x2 pooling of this kind."""
    return nn.AvgPool2d(2) if kind == "avg" else nn.MaxPool2d(2)


def scaled(channels: int, width: float) -> int:
    """Returns a channel count times the width multiplier, at least 1."""
    return max(1, round(channels * width))


def prunable_weights(model: nn.Module) -> int:
    """Returns the number of convolution and dense weights, biases and norms left out."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
