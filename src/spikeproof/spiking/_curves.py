"""Rules as the numbers that compiled kernels take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from spikeproof.spiking._rules import ASSG, BPTT, HART, Rule
from spikeproof.spiking._surrogates import (
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
)

TRIANGLE, RECTANGLE, ATAN, SIGMOID, GAUSSIAN, EXPONENTIAL, STRAIGHT, GIVEN = range(8)

_CURVES: dict[type[Surrogate], Callable[[Any], tuple[int, Any, Any]]] = {
    Triangle: lambda s: (TRIANGLE, s.gamma, 1 / np.float32(s.gamma**2)),
    Rectangle: lambda s: (RECTANGLE, s.width / 2, 1 / np.float32(s.width)),
    ATan: lambda s: (ATAN, math.pi / 2 * s.alpha, s.alpha / 2),
    Sigmoid: lambda s: (SIGMOID, s.alpha, 0),
    Gaussian: lambda s: (GAUSSIAN, s.alpha, s.height),
    Exponential: lambda s: (EXPONENTIAL, s.beta, s.a),
    StraightThrough: lambda _: (STRAIGHT, 0, 0),
}


def known_curve(rule: Rule) -> Surrogate | None:
    """Returns the rule's curve, where rule and curve are known to compiled kernels."""
    if isinstance(rule, BPTT | HART | ASSG) and type(rule) in (BPTT, HART, ASSG):
        return rule.surrogate if type(rule.surrogate) in _CURVES else None
    return None


def curve(rule: Rule) -> tuple[int, np.float32, np.float32]:
    """Returns the rule's curve as a number and two constants, or that its slopes are given."""
    own = known_curve(rule)
    kind, c0, c1 = (GIVEN, 0.0, 0.0) if own is None else _CURVES[type(own)](own)
    return kind, np.float32(c0), np.float32(c1)


def sharpening(rule: Rule) -> tuple[np.float32, np.float32]:
    """Returns width and ``rho`` of an adaptive rule."""
    width, rho = (rule.width, rule.rho) if isinstance(rule, ASSG) else (0.0, 0.0)
    return np.float32(width), np.float32(rho)


def keeping(rule: Rule) -> tuple[np.float32, ...]:
    """Returns the shares that an adaptive rule's mean keeps and takes, then its deviation's."""
    keep = (rule.beta_mean, rule.beta_deviation) if isinstance(rule, ASSG) else (0.0, 0.0)
    return tuple(np.float32(share) for kept in keep for share in (kept, 1 - kept))
