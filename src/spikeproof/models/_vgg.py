"""VGG-11 of paper A and VGG-16 of paper B."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from torch import nn
from typing_extensions import override

from spikeproof.models._setting import Architecture, Parts, Pool, check_width, pool2, scaled

P = "pool"


@dataclass(frozen=True)
class VGG11(Architecture):
    """Paper A: 8 convolutions with biases, average pooling, a 4096-4096 classifier."""

    width: float = 1.0
    pool: Pool = "avg"
    kind: Literal["vgg11"] = "vgg11"

    def __post_init__(self) -> None:
        check_width(self.width)

    @override
    def layers(self, make: Parts) -> nn.Module:
        plan = (64, P, 128, 256, P, 512, 512, 512, P, 512, 512)
        return _vgg(make, plan, (4096, 4096), self.width, self.pool, bias=True)


@dataclass(frozen=True)
class VGG16(Architecture):
    """Paper B: 13 convolutions without biases, no fifth pooling, a 256-256 classifier.

    At 32x32 and ten classes it has 15,302,848 prunable weights and 276,992 neurons.
    """

    width: float = 1.0
    pool: Pool = "max"
    kind: Literal["vgg16"] = "vgg16"

    def __post_init__(self) -> None:
        check_width(self.width)

    @override
    def layers(self, make: Parts) -> nn.Module:
        plan = (64, 64, P, 128, 128, P, 256, 256, 256, P, 512, 512, 512, P, 512, 512, 512)
        return _vgg(make, plan, (256, 256), self.width, self.pool, bias=False)


def _vgg(
    make: Parts,
    plan: tuple[int | str, ...],
    classifier: tuple[int, ...],
    width: float,
    pool: Pool,
    *,
    bias: bool,
) -> nn.Module:
    channels, parts = make.setting.channels, []
    for step in plan:
        if isinstance(step, str):
            parts.append(pool2(pool))
            continue
        outputs = scaled(step, width)
        parts += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=bias),
            nn.BatchNorm2d(outputs),
            make.neurons(),
        ]
        channels = outputs
    flat = channels * make.pooled(plan.count(P)) ** 2
    widths = (flat, *(scaled(size, width) for size in classifier))
    dense: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        dense += [nn.Linear(inputs, outputs), make.neurons()]
    return nn.Sequential(*parts, *dense, nn.Linear(widths[-1], make.setting.classes))
