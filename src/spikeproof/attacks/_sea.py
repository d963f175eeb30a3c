"""SEA, the sparse encoding attack (ICLR 2025): one gradient, the best k changes of one event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import best_changes, flips, lively
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat


@dataclass(frozen=True)
class SEA(Search):
    """Changes the k entries of steepest gradient by one event, all at once.

    To first order no other choice of k entries is better.
    """

    kind: Literal["sea"] = "sea"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)
    climbs = True

    @override
    def __call__(self, s: Standing) -> None:
        threat = flips(s)
        s.noise = s.uniform(s.x.shape[1:]) - 0.5
        gradient, _ = s.gradient(s.x)
        slope = lively(gradient, s.noise)
        s.x = s.clean + best_changes(slope, threat.uphill(slope, s.clean), threat.k)
        s.judge(s.x)
