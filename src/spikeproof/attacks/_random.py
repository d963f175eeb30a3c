"""The reference that every attack must beat: noise without a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat


@dataclass(frozen=True)
class RandomSearch(Search):
    """Draws from the budget; in norm balls the first half inside, the rest at the corners."""

    draws: int = 100
    kind: Literal["random"] = "random"
    fits: ClassVar[tuple[type[Threat], ...]] = (Threat,)
    blind = True

    @override
    def __call__(self, s: Standing) -> None:
        for draw in s.steps(self.draws):
            sample = s.threat.random if draw < self.draws // 2 else s.threat.corner
            s.look(sample(s.clean, s.uniform))
