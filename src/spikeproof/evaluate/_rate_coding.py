"""The certificate of Bernoulli rate coding (after Mukhoty et al., ICLR 2024), for T steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof.errors import Refusal
from spikeproof.evaluate._votes import ROWS, Poll, Voters, check_draws
from spikeproof.seeding import derive
from spikeproof.spiking import Encode, Poisson

GRID = 2.0**-24  # between two numbers that torch.rand draws


@dataclass(frozen=True)
class RateCoding:
    """The majority of a network's answers to spikes that its Poisson encoder draws anew.

    ``n0`` draws choose the class, ``n`` others bound its share from below with an error of at most
    ``alpha`` a sample. The encoder is the noise, so nothing is added to the network.
    """

    n0: int = 100
    n: int = 1000
    alpha: float = 0.001
    kind: Literal["rate_coding"] = "rate_coding"

    def __post_init__(self) -> None:
        check_draws(self.n0, self.n, self.alpha)

    def radius(self, lower: float, steps: int, values: int) -> float:
        """Returns the l1 radius ``1 - (3/2 - lower)^(1/T)``; 0 where there is no majority.

        Drawn from the same uniform numbers, the trains of x and x' are equal with a probability of
        ``prod_i (1 - |x_i - x'_i|)^T``, so no event changes by more than one less that. The
        logarithm is concave, so in an l1 ball the product is least where one pixel moves alone,
        ``(1 - r)^T``. At T = 1 this is the ``lower - 1/2`` of the paper, which several independent
        steps do not grant. Uniform numbers on a grid cost one place of it per pixel and step.
        """
        share = lower - steps * values * GRID
        return 1 - (1.5 - share) ** (1 / steps) if share > 0.5 else 0.0


def rate_coding_polls(
    model: nn.Module, x: Tensor, ids: tuple[int, ...], method: RateCoding, seed: int = 0
) -> list[Poll]:
    """Returns the vote on every sample; the spikes of a sample are drawn by its number."""
    rate_coder(model)
    voters, found = Voters(model, redraws=True), []
    for id, clean in zip(ids, x, strict=True):

        def draw(_: torch.Generator, clean: Tensor = clean) -> Tensor:
            return clean.expand(ROWS, *clean.shape)

        own = derive(seed, "rate_coding", id)
        found.append(voters.poll(draw, (method.n0, method.n), method.alpha, own))
    return found


def rate_coder(model: nn.Module) -> Encode:
    """Returns the Poisson encoder of a network, or refuses one that has another or none."""
    found = [module for module in model.modules() if isinstance(module, Encode)]
    if len(found) != 1 or not isinstance(found[0].encoder, Poisson):
        kinds = ", ".join(str(module.encoder) for module in found) or "none of ours"
        raise Refusal(
            f"the encoder of {type(model).__name__} is {kinds}; rate coding is certified where a "
            "Poisson encoder draws the spikes; take the method smoothing, or train with "
            "network.encoder.kind = 'poisson'"
        )
    return found[0]
