"""Our networks for the attacks of other packages."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.attacks._victim import Victim
from spikeproof.errors import within
from spikeproof.seeding import derive
from spikeproof.spiking import CBA, Rule


class Exposed(nn.Module):
    """A network as other packages take it: images to logits (B, K), in eval mode, no state left.

    Its gradient is the one that ``rule`` chooses, and its forward pass is the network's own. Of a
    network that draws noise it is the mean over ``draws``, the same ones at every call.
    """

    def __init__(self, model: nn.Module, rule: Rule | CBA | None = None, draws: int = 1) -> None:
        super().__init__()
        within("draws", draws, 1, 10_000)
        self.model, self.draws = model, draws
        self._victim = [Victim(model, rule)]  # in a list: its view is no part of this module
        self.training = False

    @override
    def train(self, mode: bool = True) -> Exposed:
        return self  # packages switch modes; a judged network has one

    @override
    def forward(self, x: Tensor) -> Tensor:
        (victim,) = self._victim
        modes = {module: module.training for module in victim.source.modules()}
        victim.source.eval()
        victim.forget()
        try:
            return torch.stack([self._drawn(x, draw) for draw in range(self.draws)]).mean(0)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _drawn(self, x: Tensor, draw: int) -> Tensor:
        (victim,) = self._victim
        victim.redraw(derive(draw, "exposed"))
        logits: Tensor = victim.source(x)
        return logits
