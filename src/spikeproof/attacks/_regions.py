"""The inputs that a threat admits, as sets whose bounds can be followed through a network."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.attacks._event_threats import Flips, RelaxedLinf
from spikeproof.attacks._threat import L0, L1, SLACK, Linf, Threat
from spikeproof.errors import Refusal
from spikeproof.spiking import Changes, Interval

JUDGED = 2 * SLACK  # what a judge forgives, and the rounding of its own difference


def region(x: Tensor, threat: Threat, slack: float = 0.0) -> Interval | Changes:
    """Returns a set that holds every input which the threat admits around ``x`` (B, *F).

    With ``JUDGED`` as slack it holds every input that passes for admissible in float32.
    """
    nothing = torch.zeros_like(x)
    match threat:
        case Linf() | RelaxedLinf():
            eps = threat.eps + slack * max(1.0, threat.eps)
            ends = threat.low - slack, threat.high + slack
            return Interval((x - eps).clamp(*ends), (x + eps).clamp(*ends), x)
        case L0():
            low, high = nothing + threat.low - slack, nothing + threat.high + slack
            return Changes(x, low, high, threat.eps, "l0", nothing)
        case L1():
            eps = threat.eps + slack * max(1.0, threat.eps)
            low = (x - eps).clamp_min(threat.low - slack)
            high = (x + eps).clamp_max(threat.high + slack)
            return Changes(x, low, high, eps, "l1", nothing)
        case Flips(binary=True):
            return Changes(x, nothing, nothing + 1, threat.k, "l0", nothing)
        case Flips():
            return Changes(x, (x - threat.k).clamp_min(0), x + threat.k, threat.k, "l1", nothing)
    raise Refusal(
        f"the threat is {threat}; bounds are known of linf, l0, l1 and flips; choose one of them"
    )
