"""The loops of the fused kernel: some steps of every neuron, its state in registers.

The membranes of these steps live in registers only: the backward pass computes them again from the
currents, so that every train passes through memory once each way. The arithmetic is the
reference's, in its order; only exponentials differ, by a few units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from operator import add
from typing import Any

from spikeproof.spiking._rules import ASSG
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
from spikeproof.spiking._vectors import Lane, Loop, Value, compiled


@dataclass(frozen=True)
class Pass:
    """What tells one loop from another; slopes come from memory where no curve is known."""

    steps: int
    hard: bool
    started: bool  # from a membrane, instead of from rest
    kept: bool = False  # forward: membranes are written; back: the gradient of the start is
    adaptive: ASSG | None = None
    observing: bool = False  # the adaptive rule's means are moved and written, not read
    remembered: bool = False  # they go on, instead of beginning
    curve: Surrogate | None = None
    temporal: bool = True
    through: bool = False  # the reset, too
    held: bool = False  # x is one step
    summed: bool = False  # dx is one sum over time
    further: bool = False  # to which the steps after these have given
    ended: bool = False  # the last membrane is written; back: it has a gradient
    learned: bool = False  # threshold and leak have gradients
    pooled: bool = False  # spikes are means of 2x2 places
    past_caches: bool = False


@lru_cache(512)
def forward(what: Pass) -> Loop:
    """Returns the loop from currents ``x`` to spikes ``s`` and the membrane ``after``."""
    return compiled(lambda lane: _forward(lane, what), past_caches=what.past_caches)


@lru_cache(512)
def backward(what: Pass) -> Loop:
    """Returns the loop from the gradients ``ds`` of spikes to those ``dx`` of currents."""
    return compiled(lambda lane: _backward(lane, what), past_caches=what.past_caches)


def _forward(lane: Lane, what: Pass) -> None:
    if not what.pooled:
        for t, s in enumerate(_fired(lane, what)):
            lane.store("s", t, s)
        return
    totals = [lane.splat(0)] * what.steps
    for corner in lane.corners:
        totals = [a + s for a, s in zip(totals, _fired(corner, what), strict=True)]
    for t, total in enumerate(totals):
        lane.store("s", t, total * 0.25)


def _fired(lane: Lane, what: Pass) -> list[Value]:
    """Returns the spikes, everything besides them written."""
    u, s, v = trace(lane, what)
    for t in range(what.steps):
        if what.kept:
            lane.store("u", t, u[t])
        if what.adaptive is not None:
            _means(lane, what, what.adaptive, t, u[t] - lane.number("theta"))
    if what.ended:
        lane.store("after", 0, v[-1])
    return s


def trace(lane: Lane, what: Pass) -> tuple[list[Value], list[Value], list[Value]]:
    """Returns membranes before the reset, spikes, and membranes after it, the start among them."""
    theta, tau = lane.number("theta"), lane.number("tau")
    befores, spikes = [], []
    held = lane.load("x") if what.held else None
    afters = [lane.load("start") if what.started else lane.splat(0)]
    for t in range(what.steps):
        u = tau * afters[-1] + (lane.load("x", t) if held is None else held)
        s = fires(u, theta)
        befores.append(u)
        spikes.append(s)
        afters.append(u * (1 - s) if what.hard else u - theta * s)
    return befores, spikes, afters


def fires(u: Value, theta: Value) -> Value:
    """Returns the spikes of membranes."""
    return (u - theta).compare(">=", 0).chosen(1, 0)


def _means(lane: Lane, what: Pass, rule: ASSG, t: int, u: Value) -> tuple[Value, Value]:
    """Returns the running means of the distance to the threshold and of its deviation."""
    if not what.observing:
        return lane.load("mean", t), lane.load("deviation", t)
    old: tuple[Value, Value] = lane.splat(1), lane.splat(0)
    if what.remembered:
        old = lane.load("old_mean", t), lane.load("old_deviation", t)
    mean = rule.beta_mean * old[0] + (1 - rule.beta_mean) * abs(u)
    moved = (1 - rule.beta_deviation) * abs(abs(u) - mean)
    deviation = rule.beta_deviation * old[1] + moved
    lane.store("mean", t, mean)
    lane.store("deviation", t, deviation)
    return mean, deviation


def _backward(lane: Lane, what: Pass) -> None:
    if not what.pooled:
        _descend(lane, what, partial(lane.load, "ds"))
        return
    shares = [lane.load("ds", t) * 0.25 for t in range(what.steps)]
    for corner in lane.corners:
        _descend(corner, what, shares.__getitem__)


def _descend(lane: Lane, what: Pass, ds: Callable[[int], Value]) -> None:
    """Writes the gradients of currents whose spikes have these at a step."""
    tau = lane.number("tau")
    u, s, v = trace(lane, what)
    dv = lane.load("d_after") if what.ended else lane.splat(0)
    d_theta, d_tau = lane.splat(0), lane.splat(0)
    given = []
    for t in reversed(range(what.steps)):
        d = _through_spike(lane, what, t, u[t], dv, ds(t))
        if what.learned:
            d_theta = d_theta - d
            if what.temporal and not what.hard:
                d_theta = d_theta - s[t] * dv
        if what.temporal:
            d = d + (dv * (1 - s[t]) if what.hard else dv)
        if what.learned and (t or what.started):
            d_tau = d_tau + d * v[t]
        dv = tau * d if what.temporal else lane.splat(0)
        given.append(d)
        if not what.summed:
            lane.store("dx", t, d)
    if what.summed:
        _hand_on_sum(lane, what, given)
    if what.kept:
        lane.store("d_start", 0, dv)
    if what.learned:
        lane.add("d_theta", d_theta)
        lane.add("d_tau", d_tau)


def _hand_on_sum(lane: Lane, what: Pass, given: list[Value]) -> None:
    """Writes the sum of gradients that came last step first, in torch's order within these."""
    total = reduce(add, reversed(given))
    lane.store("dx", 0, total + lane.load("dx") if what.further else total)


def _through_spike(lane: Lane, what: Pass, t: int, u: Value, dv: Value, e: Value) -> Value:
    theta = lane.number("theta")
    if what.through:
        e = e - (u if what.hard else theta) * dv
    return _slope(lane, what, t, u - theta) * e


def _slope(lane: Lane, what: Pass, t: int, distance: Value) -> Value:
    if what.curve is None:
        return lane.load("slopes", t)
    curve = CURVES[type(what.curve)]
    if what.adaptive is None:
        return curve(what.curve, distance)
    mean, deviation = _means(lane, what, what.adaptive, t, distance)
    alpha = 1 / (mean + what.adaptive.rho * deviation + 1e-4) * what.adaptive.width
    return alpha * curve(what.curve, alpha * distance)


def _triangle(curve: Triangle, v: Value) -> Value:
    height = curve.gamma - abs(v)
    return height.compare("<", 0).chosen(0, height) / curve.gamma**2


def _rectangle(curve: Rectangle, v: Value) -> Value:
    return abs(v).compare("<", curve.width / 2).chosen(1 / v.lane.splat(curve.width), 0)


def _atan(curve: ATan, v: Value) -> Value:
    x = math.pi / 2 * curve.alpha * v
    return 1 / (1 + x * x) * (curve.alpha / 2)


def _sigmoid(curve: Sigmoid, v: Value) -> Value:
    e = (-1 * abs(curve.alpha * v)).exp()
    return curve.alpha * (e / ((1 + e) * (1 + e)))


def _gaussian(curve: Gaussian, v: Value) -> Value:
    x = curve.alpha * v
    return curve.height * (x * x * -0.5).exp()


def _exponential(curve: Exponential, v: Value) -> Value:
    return curve.a * (-curve.beta * abs(v)).exp()


CURVES: dict[type[Surrogate], Callable[[Any, Value], Value]] = {
    Triangle: _triangle,
    Rectangle: _rectangle,
    ATan: _atan,
    Sigmoid: _sigmoid,
    Gaussian: _gaussian,
    Exponential: _exponential,
    StraightThrough: lambda _, v: v.lane.splat(1),
}
