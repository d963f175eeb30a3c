"""Regularised adversarial training of SNN-RAT (Ding et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof.attacks import CE, PGD, Linf, Loss, Search, Threat
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import BPTR, Rule
from spikeproof.training._adversarial import Adversarial


@dataclass(frozen=True)
class RAT:
    """Adversarial training whose attack follows one of ``rules``, drawn anew at every step.

    ``None`` among them is the training gradient.
    The regularisation that belongs to it acts on the weights: the retractions ``Orthogonal`` and
    ``Simplex`` of the plan, in place of weight decay.
    """

    threat: Threat = field(default_factory=lambda: Linf(2 / 255))
    search: Search = field(default_factory=lambda: PGD(2, step_size=1 / 255))
    loss: Loss = field(default_factory=CE)
    rules: tuple[Rule | None, ...] = (None, BPTR())
    kind: Literal["rat"] = "rat"

    def __post_init__(self) -> None:
        if not self.rules:
            raise Refusal(
                "rules is empty; every attack of rat follows one gradient rule; give at least "
                "one, such as bptt"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        draw = generator(seed, "rule")
        rule = self.rules[int(torch.randint(len(self.rules), (), generator=draw))]
        return Adversarial(self.threat, self.search, self.loss, rule)(model, x, y, seed)
