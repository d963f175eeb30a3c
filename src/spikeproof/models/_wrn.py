"""Wide residual networks with learned convex merges (papers A and B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal, short, within
from spikeproof.models._setting import Architecture, Parts, check_width, scaled


@dataclass(frozen=True)
class WRN(Architecture):
    """WRN-depth-widen: three groups of (depth-4)/6 pre-activation blocks, 16k/32k/64k channels."""

    depth: int = 16
    widen: int = 4
    width: float = 1.0
    kind: Literal["wrn"] = "wrn"

    def __post_init__(self) -> None:
        if not 10 <= self.depth <= 1000 or (self.depth - 4) % 6:
            raise Refusal(
                f"depth is {short(self.depth)}; a wide residual network has 6n + 4 layers with "
                "n >= 1, at most 1000 here; take 16 or 28"
            )
        within("widen", self.widen, 1, 64)
        check_width(self.width)

    @override
    def layers(self, make: Parts) -> nn.Module:
        make.pooled(2)
        stem = scaled(16, self.width)
        parts: list[nn.Module] = [nn.Conv2d(make.setting.channels, stem, 3, padding=1, bias=False)]
        inputs = stem
        for group, base in enumerate((16, 32, 64)):
            outputs = scaled(base * self.widen, self.width)
            for block in range((self.depth - 4) // 6):
                stride = 2 if group > 0 and block == 0 else 1
                project = block == 0  # the first input has no time yet and cannot be added
                parts.append(_Block(make, inputs, outputs, stride, project=project))
                inputs = outputs
        return nn.Sequential(
            *parts,
            nn.BatchNorm2d(inputs),
            make.neurons(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inputs, make.setting.classes),
        )


class _Block(nn.Module):
    """Norm - neurons - conv - norm - neurons - conv, merged with its input by two scalars."""

    def __init__(
        self, make: Parts, inputs: int, outputs: int, stride: int, *, project: bool
    ) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), make.neurons())
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            make.neurons(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if project else None
        self.merge = nn.Parameter(torch.full((2,), 0.5))

    @override
    def forward(self, x: Tensor) -> Tensor:
        active = self.enter(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        return self.merge[0] * kept + self.merge[1] * self.branch(active)
