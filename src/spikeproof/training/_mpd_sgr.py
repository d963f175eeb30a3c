"""MPD-SGR: membranes kept where the surrogate has no slope (AAAI 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeproof.errors import within
from spikeproof.training._membranes import distances
from spikeproof.training._penalties import Pass


@dataclass(frozen=True)
class MPDSGR:
    """``lamb`` times the share of a layer's membranes from which a gradient comes, layers' mean.

    ``Phi((mu + gamma) / sigma) - Phi((mu - gamma) / sigma)``, with mean and deviation of the
    distance to the threshold over batch, time and layer, as if it were normal; ``gamma`` is half
    the width of the surrogate's support. What it takes away is the gradient of *training*: attack
    such a network through wider surrogates.
    """

    lamb: float = 0.05
    gamma: float = 1.0
    kind: Literal["mpd_sgr"] = "mpd_sgr"
    neurons: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("lamb", self.lamb, 0, 1e6)
        within("gamma", self.gamma, 1e-6, 1e6)

    def __call__(self, seen: Pass) -> Tensor:
        if self.lamb == 0:
            return seen.logits.new_zeros(())
        shares = []
        for distance in distances(seen, self.kind):
            var, mean = torch.var_mean(distance, correction=0)
            deviation = var.clamp_min(1e-12).sqrt()
            ends = torch.stack([mean + self.gamma, mean - self.gamma]) / deviation
            high, low = torch.special.ndtr(ends)
            shares.append(high - low)
        return self.lamb * torch.stack(shares).mean()
