"""Adversarial training (Madry et al., 2018, https://arxiv.org/abs/1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from spikeproof.attacks import CE, PGD, Attack, Linf, Loss, Search, Threat, ascend
from spikeproof.spiking import Rule


@dataclass(frozen=True)
class Adversarial:
    """Cross entropy where an attack on the network, as it is in eval mode, has led the inputs.

    The attack goes to its end whether or not a sample is fooled; ``rule=None`` follows the
    training gradient. One PGD step of 1.25 eps is "fast" adversarial training
    (https://arxiv.org/abs/2001.03994). Norms see attacked inputs only, as the papers train.
    """

    threat: Threat = field(default_factory=lambda: Linf(8 / 255))
    search: Search = field(default_factory=lambda: PGD(7))
    loss: Loss = field(default_factory=CE)
    rule: Rule | None = None
    kind: Literal["adversarial"] = "adversarial"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        attack = Attack(self.search, self.loss, self.rule)
        x = ascend(attack, model, x, y, self.threat, seed=seed)
        return functional.cross_entropy(model(x), y)
