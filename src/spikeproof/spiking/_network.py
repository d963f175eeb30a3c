"""A whole network: entrance, layers, logits; and the activations of its analog twin."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.shapes import Logits
from spikeproof.spiking._encoders import Encode
from spikeproof.spiking._memory import spikes_kept_small
from spikeproof.spiking._neurons import Spiking
from spikeproof.spiking._pools import in_turn
from spikeproof.spiking._recompute import run_in_blocks


class SpikingNetwork(nn.Module):
    """Maps what a sensor delivers to logits (B, K), their mean over time.

    ``layers`` is any module of plain ``torch.nn`` layers and ``Spiking`` ones, on (T*B, ...).
    Everything before the first neuron runs once per sample under a static encoder.
    """

    def __init__(self, encode: Encode, layers: nn.Module) -> None:
        super().__init__()
        neurons = [module for module in layers.modules() if isinstance(module, Spiking)]
        opening = [layer.opens_time for layer in neurons]
        if opening != [encode.encoder.static, *[False] * len(opening)][: len(opening)]:
            raise Refusal(
                f"opens_time is {opening} in the order of the layers and the encoder is "
                f"{encode.encoder}; time is opened once, by the encoder or, under a static one, by "
                "the first layer of neurons; set opens_time there and nowhere else"
            )
        self.encode = encode
        self.layers = layers
        self.recompute = False

    def steps(self, x: Tensor) -> Tensor:
        """Returns the logits of every step, (T, B, K)."""
        entered = self.encode(x)
        if entered.device.type == "cpu":  # where convolutions, norms and pools are faster in it
            entered = entered.clone(memory_format=torch.channels_last)
        with spikes_kept_small() if self.training else nullcontext():  # frozen layers keep none
            run = (run_in_blocks if self.recompute else in_turn)(self.layers, entered)
            return run.unflatten(0, (-1, len(x)))

    @override
    def forward(self, x: Tensor) -> Logits:
        return self.steps(x).mean(0)


class Analog(nn.Module):
    """What a layer of neurons becomes in the analog twin: its rate, ``f(current / theta)``."""

    def __init__(self, neurons: Spiking, levels: int | None = None) -> None:
        super().__init__()
        self.neurons = neurons
        self.levels = levels

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = x / self.neurons.theta
        return torch.relu(x) if self.levels is None else _ClipFloor.apply(x, self.levels)

    @override
    def extra_repr(self) -> str:
        return f"levels={self.levels}"


class _ClipFloor(torch.autograd.Function):
    """``floor(levels clip(x, 0, 1) + 1/2) / levels``; its slope is the clip's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward((x >= 0) & (x <= 1))
        return torch.floor(levels * x.clamp(0, 1) + 0.5) / levels

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return d_y * inside, None
