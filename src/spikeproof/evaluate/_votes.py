"""Votes of a network over draws of noise: what randomised certificates count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikeproof.attacks import stochastic
from spikeproof.errors import Refusal, within
from spikeproof.seeding import derive
from spikeproof.shapes import Logits
from spikeproof.spiking import drawing_from
from spikeproof.statistics import clopper_pearson

ROWS = 100  # of every pass, the last included: kernels round alike whatever is asked
MOST = 10_000_000

Draw = Callable[[torch.Generator], Tensor]  # ROWS noisy copies of one sample


@dataclass(frozen=True)
class Poll:
    """The answer of a majority, and how surely it is one.

    ``answer`` is the class of most of ``n0`` draws, ``hits`` how many of ``n`` other draws agree,
    and ``lower`` the bound that the share of all draws lies under with probability ``alpha``.
    """

    answer: int
    hits: int
    lower: float


class Voters:
    """A network asked about noisy copies; its own noise, if it draws any, is drawn for each."""

    def __init__(self, model: nn.Module, *, redraws: bool = False) -> None:
        self._generator = torch.Generator()
        noisy = redraws or stochastic(model)
        self._model = drawing_from(model, self._generator) if noisy else model

    def poll(self, draw: Draw, draws: tuple[int, int], alpha: float, seed: int) -> Poll:
        """Returns the vote on one sample; ``seed`` is of this sample, and of nothing else."""
        n0, n = draws
        chosen = self._counts(draw, n0, derive(seed, "select"))
        answer = int(chosen.argmax())  # of several, the first
        hits = int(self._counts(draw, n, derive(seed, "estimate"))[answer])
        return Poll(answer, hits, clopper_pearson(hits, n, alpha))

    def _counts(self, draw: Draw, draws: int, seed: int) -> Tensor:
        total = torch.zeros(0, dtype=torch.int64)
        for number, begun in enumerate(range(0, draws, ROWS)):
            noise = torch.Generator().manual_seed(derive(seed, "input", number))
            self._generator.manual_seed(derive(seed, "network", number))
            with torch.no_grad():
                logits: Logits = self._model(draw(noise))
            answers = logits[: draws - begun].argmax(1).cpu()
            counts = torch.bincount(answers, minlength=logits.shape[1])
            total = counts if not len(total) else total + counts
        return total


def check_draws(n0: int, n: int, alpha: float) -> None:
    """Refuses numbers of draws that say nothing, and an error that is no probability."""
    within("n0", n0, 1, MOST)
    within("n", n, 1, MOST)
    if not 0 < alpha < 0.5:
        raise Refusal(
            f"alpha is {alpha}; it is the probability that a certificate is wrong, above 0 and "
            "below 0.5; take 0.001"
        )
