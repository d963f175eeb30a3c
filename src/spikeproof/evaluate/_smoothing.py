"""Randomised smoothing by Gaussian noise (Cohen et al., 2019, https://arxiv.org/abs/1902.02918)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof.errors import within
from spikeproof.evaluate._votes import ROWS, Poll, Voters, check_draws
from spikeproof.seeding import derive


@dataclass(frozen=True)
class Smoothing:
    """The majority of a network's answers under Gaussian noise of deviation ``sigma``.

    ``n0`` draws choose the class, ``n`` others bound its share from below with an error of at most
    ``alpha`` a sample. Any network will do. What is certified is the majority, in l2, and not the
    network's own answer; noisy inputs leave the range of the sensor.
    """

    sigma: float = 0.25
    n0: int = 100
    n: int = 1000
    alpha: float = 0.001
    kind: Literal["smoothing"] = "smoothing"

    def __post_init__(self) -> None:
        within("sigma", self.sigma, 1e-6, 1e6)
        check_draws(self.n0, self.n, self.alpha)

    def radius(self, lower: float) -> float:
        """Returns ``sigma Phi^-1(lower)``, in which the majority stays; 0 where there is none.

        By the lemma of Neyman and Pearson no set of share p loses more, when the noise moves by r,
        than a half-space, whose share falls to ``Phi(Phi^-1(p) - r / sigma)``.
        """
        return self.sigma * NormalDist().inv_cdf(lower) if lower > 0.5 else 0.0


def smoothed_polls(
    model: nn.Module, x: Tensor, ids: tuple[int, ...], method: Smoothing, seed: int = 0
) -> list[Poll]:
    """Returns the vote on every sample; the noise of a sample is that of its number in ``ids``."""
    voters, shape, found = Voters(model), (ROWS, *x.shape[1:]), []
    for id, clean in zip(ids, x, strict=True):

        def draw(noise: torch.Generator, clean: Tensor = clean) -> Tensor:
            return clean + method.sigma * torch.randn(shape, generator=noise).to(clean)

        own = derive(seed, "smoothing", id)
        found.append(voters.poll(draw, (method.n0, method.n), method.alpha, own))
    return found
