"""Whether a sensor could have delivered adversarial events, told without the threat's code."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spikeproof.attacks import Flips, Retiming, Threat
from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import decide, skip
from spikeproof.evaluate._record import Check

Array = NDArray[np.float64]
EVENTS = (Flips.kind, Retiming.kind)


def feasible(x_adv: Tensor, x: Tensor, threat: Threat) -> Check:
    """Returns C28 of adversarial event frames (B, T, C, H, W), told from the frames alone."""
    if x_adv.shape != x.shape:
        raise Refusal(
            f"adversarials of shape {tuple(x_adv.shape)} for inputs of shape {tuple(x.shape)}; "
            "each belongs to one input; give them in the same order"
        )
    if not isinstance(threat, Flips | Retiming):
        return skip("C28", f"{threat} is no change of events that a sensor could deliver")
    bad = possible(x_adv, x, threat).count(False)
    return decide("C28", bad, f"{bad} of {len(x)} adversarials are no events within the budget")


def possible(x_adv: Tensor, x: Tensor, threat: Threat) -> list[bool]:
    """Returns of each adversarial whether a sensor could deliver it; no other threat asks."""
    if not isinstance(threat, Flips | Retiming):
        return [True] * len(x)
    pairs = zip(x_adv.double().cpu().numpy(), x.double().cpu().numpy(), strict=True)
    return [_possible(after, before, threat) for after, before in pairs]


def _possible(after: Array, before: Array, threat: Flips | Retiming) -> bool:
    if not (np.isfinite(after).all() and (after >= 0).all() and (after % 1 == 0).all()):
        return False
    if isinstance(threat, Flips):
        return _flipped(after, before, threat)
    return _retimed(after, before, threat)


def _flipped(after: Array, before: Array, threat: Flips) -> bool:
    most = 1 if threat.binary else np.inf
    return bool(after.max(initial=0) <= most and np.abs(after - before).sum() <= threat.k)


def _retimed(after: Array, before: Array, threat: Retiming) -> bool:
    """Packets of one pixel and size keep their order, which no other matching beats."""
    after, before = (frames.reshape(len(frames), -1) for frames in (after, before))
    shifts: list[int] = []
    moved = 0
    for line in np.flatnonzero((after != before).any(0)):
        here, there = before[:, line], after[:, line]
        if Counter(here[here > 0]) != Counter(there[there > 0]):
            return False
        for size in np.unique(here[here > 0]):
            old, new = np.flatnonzero(here == size), np.flatnonzero(there == size)
            shifts += np.abs(old - new).tolist()
            moved += len(set(old) - set(new))
    spent = {"binf": max(shifts, default=0), "b1": sum(shifts), "b0": moved}
    return spent[threat.limits] <= threat.budget
