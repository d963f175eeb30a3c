"""SEW-ResNet and Spiking-ResNet of paper C, with the stem of ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal, short
from spikeproof.models._setting import Architecture, Parts, Pool, check_width, scaled
from spikeproof.spiking import Bounds, Changes, Interval

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


@dataclass(frozen=True)
class SEWResNet(Architecture):
    """Spike-element-wise residual network: every branch ends in spikes, which are added.

    Pooling in the stem is the only difference between paper C's variants.
    """

    depth: int = 18
    pool: Pool = "max"
    width: float = 1.0
    kind: Literal["sew_resnet"] = "sew_resnet"

    def __post_init__(self) -> None:
        _check(self.depth, self.width)

    @override
    def layers(self, make: Parts) -> nn.Module:
        return _resnet(make, self.depth, self.width, self.pool, spikes_are_added=True)


@dataclass(frozen=True)
class SpikingResNet(Architecture):
    """The residual network whose currents are added before the last neurons of a block."""

    depth: int = 18
    width: float = 1.0
    kind: Literal["spiking_resnet"] = "spiking_resnet"

    def __post_init__(self) -> None:
        _check(self.depth, self.width)

    @override
    def layers(self, make: Parts) -> nn.Module:
        return _resnet(make, self.depth, self.width, "max", spikes_are_added=False)


def _check(depth: int, width: float) -> None:
    if depth not in BLOCKS:
        raise Refusal(
            f"depth is {short(depth)}; residual networks come as 18, 34 and 50; choose one"
        )
    check_width(width)


def _resnet(
    make: Parts, depth: int, width: float, pool: Pool, *, spikes_are_added: bool
) -> nn.Module:
    stem = scaled(64, width)
    parts: list[nn.Module] = [
        *_conv_norm(make.setting.channels, stem, 7, 2),
        make.neurons(),
        nn.MaxPool2d(3, 2, 1) if pool == "max" else nn.AvgPool2d(3, 2, 1),
    ]
    inputs, bottleneck = stem, depth >= 50
    for stage, count in enumerate(BLOCKS[depth]):
        inner = scaled(64 << stage, width)
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            build = _bottleneck if bottleneck else _basic
            branch, outputs = build(make, inputs, inner, stride)
            add = _Add(make, branch, inputs, outputs, stride, spikes_are_added=spikes_are_added)
            parts.append(add)
            inputs = outputs
    return nn.Sequential(
        *parts,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, make.setting.classes),
    )


class _Add(nn.Module):
    """A branch and a shortcut, added as spikes or as currents."""

    def __init__(
        self,
        make: Parts,
        branch: list[nn.Module],
        inputs: int,
        outputs: int,
        stride: int,
        *,
        spikes_are_added: bool,
    ) -> None:
        super().__init__()
        fire: Callable[[], nn.Module] = make.neurons
        if not spikes_are_added:
            fire = nn.Identity
        self.branch = nn.Sequential(*branch, fire())
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*_conv_norm(inputs, outputs, 1, stride), fire())
        self.after = nn.Identity() if spikes_are_added else make.neurons()

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.branch(x) + self.shortcut(x))

    def bounded(self, x: Interval, bounds: Bounds) -> Interval | Changes:
        """Returns what the block makes of an interval."""
        return bounds(self.after, bounds.sum(bounds(self.branch, x), bounds(self.shortcut, x)))


def _basic(make: Parts, inputs: int, inner: int, stride: int) -> tuple[list[nn.Module], int]:
    branch = [
        *_conv_norm(inputs, inner, 3, stride),
        make.neurons(),
        *_conv_norm(inner, inner, 3, 1),
    ]
    return branch, inner


def _bottleneck(make: Parts, inputs: int, inner: int, stride: int) -> tuple[list[nn.Module], int]:
    branch = [
        *_conv_norm(inputs, inner, 1, 1),
        make.neurons(),
        *_conv_norm(inner, inner, 3, stride),
        make.neurons(),
        *_conv_norm(inner, 4 * inner, 1, 1),
    ]
    return branch, 4 * inner


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]
