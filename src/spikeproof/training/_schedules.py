"""The learning rate as a pure function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from spikeproof.training._plan import Constant, Cosine, Plan, Steps


def factor(plan: Plan, step: int, per_epoch: int) -> float:
    """Returns what the learning rate of ``step`` (from 0) is multiplied by.

    Over the warm-up it rises in equal steps and reaches the schedule at the first step after it.
    A cosine fills what is left then; milestones count from the start of training.

    >>> from spikeproof.training import SGD, Cosine, Plan
    >>> plan = Plan(epochs=2, batch=1, optimizer=SGD(0.1), schedule=Cosine())
    >>> [round(factor(plan, step, per_epoch=2), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    warm = round(plan.warmup * per_epoch)
    ramp = min(1.0, (step + 1) / (warm + 1))
    match plan.schedule:
        case Constant():
            return ramp
        case Cosine(final=final):
            done = max(0, step - warm) / max(1, plan.epochs * per_epoch - warm)
            return ramp * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
        case Steps(milestones=milestones, factor=each):
            passed = sum(step >= round(epoch * per_epoch) for epoch in milestones)
            return ramp * each**passed
