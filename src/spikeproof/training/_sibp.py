"""S-IBP (Liang et al., NeurIPS 2022): training on interval bounds of the worst case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from spikeproof.attacks import Linf, Threat, region
from spikeproof.errors import Refusal
from spikeproof.spiking import SpikingNetwork, margins
from spikeproof.training._objectives import check_share


@dataclass(frozen=True)
class SIBP:
    """``(1 - kappa) CE(f(x), y) + kappa CE(z, y)``, ``z`` the worst logits that bounds allow.

    With the lower bounds m of the label's margins, ``z = -m``: no input that the threat admits has
    worse ones. The gradient passes the bounds of spikes by the training surrogate. Norms are those
    of the clean batch. A budget is best raised in stages: each begins where the last ended.
    """

    threat: Threat = field(default_factory=lambda: Linf(2 / 255))
    kappa: float = 0.5
    kind: Literal["sibp"] = "sibp"

    def __post_init__(self) -> None:
        check_share("kappa", self.kappa)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, _: int = 0) -> Tensor:
        if not isinstance(model, SpikingNetwork):
            raise Refusal(
                f"{type(model).__name__} is no SpikingNetwork; bounds follow layers and neurons "
                "that are known; use the objective adversarial"
            )
        lower, clean = margins(model, region(x, self.threat), y)
        if clean is None:
            raise TypeError("bounds that follow no clean input")
        worst = functional.cross_entropy(-lower, y)
        return (1 - self.kappa) * functional.cross_entropy(clean, y) + self.kappa * worst
