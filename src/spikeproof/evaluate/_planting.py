"""The checks tested on the spot: broken defences planted around a network that is at hand."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from spikeproof.attacks import PGD, Attack, Linf, Threat, correct, run, under_attack
from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import skip
from spikeproof.evaluate._doubles import fitting, self_test
from spikeproof.evaluate._record import Check
from spikeproof.spiking import ASSG, Spiking

FEW = 16  # samples
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the input range
FALLS = 0.8  # of the samples that are right: then there is something to hide


def planted_masking(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Check:
    """Returns C27 of broken defences planted around ``model``, as far as it can carry them.

    A defence can be caught hiding errors where there are some, so the budget is the first under
    which the bare model falls, in the maximum norm. Who is wrong on clean input hides nothing.
    """
    ball = Linf(0.0, float(getattr(threat, "low", 0.0)), _high(threat, x))
    with under_attack(model), torch.no_grad():
        right = correct(model(x), y).nonzero().squeeze(1)[:FEW]
        x, y = x[right], y[right]
        if len(right) < FEW // 2:
            return skip("C27", f"only {len(right)} samples are right: too few to plant defences in")
        for share in SHARES:
            ball = replace(ball, eps=share * (ball.high - ball.low))
            if _fallen(model, x, y, ball) >= FALLS:
                break
        else:
            return skip(
                "C27",
                f"{model.__class__.__name__} hides its errors by itself: no PGD "
                f"breaks {FALLS:.0%} of {len(x)} samples within half the input range",
            )
    check = self_test(model, x, y, ball, planted=fitting(model), every=False, seed=seed)
    return replace(check, detail=f"{check.detail} ({len(x)} samples, {ball.eps:.3g} in Linf)")


def _high(threat: Threat, x: Tensor) -> float:
    high = float(getattr(threat, "high", torch.inf))
    return high if high < torch.inf else max(1.0, float(x.max()))  # counts of events have no end


def _fallen(model: nn.Module, x: Tensor, y: Tensor, ball: Linf) -> float:
    """Returns the share that a short attack breaks, through a rule that knows the neurons."""
    ours = any(isinstance(module, Spiking) for module in model.modules())
    ids = torch.arange(len(y), device=y.device)
    try:
        attack = Attack(PGD(20), rule=ASSG() if ours else None)
        return float(run(attack, model, x, y, ball, ids=ids).fallen.double().mean())
    except Refusal:
        return 0.0
