"""The programs of the Triton kernel: blocks of elements that run through all their steps.

Each element's steps come in segments, whose membranes before the reset a program holds in
registers on its way back. What is written in capitals is known when a program is compiled.
"""
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0915, C901, RET505  a program takes all by its place, and
# the compiler wants its branches closed.

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from spikeproof.spiking import _curves

TRIANGLE, RECTANGLE, ATAN = (
    tl.constexpr(_curves.TRIANGLE),
    tl.constexpr(_curves.RECTANGLE),
    tl.constexpr(_curves.ATAN),
)
SIGMOID, GAUSSIAN, EXPONENTIAL = (
    tl.constexpr(_curves.SIGMOID),
    tl.constexpr(_curves.GAUSSIAN),
    tl.constexpr(_curves.EXPONENTIAL),
)
GIVEN = tl.constexpr(_curves.GIVEN)


@triton.jit
@no_type_check
def _slope(CURVE: tl.constexpr, c0, c1, v):
    """The slope of a curve at distance ``v``; ``_curves`` says what the constants are."""
    one = tl.full(v.shape, 1.0, tl.float32)
    if CURVE == TRIANGLE:
        height = c0 - tl.abs(v)
        return tl.where(height < 0.0, 0.0, height) * c1
    elif CURVE == RECTANGLE:
        return tl.where(tl.abs(v) < c0, c1, 0.0)
    elif CURVE == ATAN:
        return tl.div_rn(one, one + (c0 * v) * (c0 * v)) * c1
    elif CURVE == SIGMOID:
        e = tl.exp(-tl.abs(c0 * v))
        return c0 * tl.div_rn(e, (one + e) * (one + e))
    elif CURVE == GAUSSIAN:
        return c1 * tl.exp(-((c0 * v) * (c0 * v)) * 0.5)
    elif CURVE == EXPONENTIAL:
        return c1 * tl.exp(-c0 * tl.abs(v))
    else:
        return one


@triton.jit
@no_type_check
def _reset(u, theta, HARD: tl.constexpr):
    s = tl.where(u - theta >= 0.0, 1.0, 0.0)
    return s, u * (1.0 - s) if HARD else u - theta * s


@triton.jit
@no_type_check
def _run(
    first, v, x, far, n, offsets, inside, theta, tau, spikes, before, seen, keep,
    HARD: tl.constexpr, TRACED: tl.constexpr, SEEN: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Some steps from ``first`` on; returns the membrane after them."""
    for i in tl.static_range(STEPS):
        here = (first + i) * n + offsets
        u = tau * v + tl.load(x + (first + i) * far + offsets, mask=inside, other=0.0).to(
            tl.float32
        )
        s, v = _reset(u, theta, HARD)
        tl.store(spikes + here, s.to(spikes.dtype.element_ty), mask=inside)
        if TRACED:
            tl.store(before + here, u, mask=inside)
        if SEEN > 0:
            distance = tl.abs(u - theta)
            m = tl.full(u.shape, 1.0, tl.float32)
            d = tl.full(u.shape, 0.0, tl.float32)
            if SEEN > 1:
                m = tl.load(seen[0] + here, mask=inside, other=0.0)
                d = tl.load(seen[1] + here, mask=inside, other=0.0)
            m = keep[0] * m + keep[1] * distance
            tl.store(seen[2] + here, m, mask=inside)
            tl.store(seen[3] + here, keep[2] * d + keep[3] * tl.abs(distance - m), mask=inside)
    return v


@triton.jit
@no_type_check
def forward(
    x, far, n, start, theta, tau, spikes, after, marks, before,
    old_mean, old_deviation, mean, deviation, k0, k1, k2, k3,
    LEARNED: tl.constexpr, HARD: tl.constexpr, STARTED: tl.constexpr, MARKED: tl.constexpr,
    TRACED: tl.constexpr, SEEN: tl.constexpr, T: tl.constexpr, LONG: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    n, far = tl.cast(n, tl.int64), tl.cast(far, tl.int64)
    offsets = tl.cast(tl.program_id(0), tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    if LEARNED:
        theta, tau = tl.load(theta), tl.load(tau)
    v = tl.full((BLOCK,), 0.0, tl.float32)
    if STARTED:
        v = tl.load(start + offsets, mask=inside, other=0.0)
    seen, keep = (old_mean, old_deviation, mean, deviation), (k0, k1, k2, k3)
    for k in range(T // LONG):
        if MARKED:
            tl.store(marks + k * n + offsets, v, mask=inside)
        v = _run(
            k * LONG, v, x, far, n, offsets, inside, theta, tau, spikes, before, seen, keep,
            HARD, TRACED, SEEN, LONG,
        )  # fmt: skip
    if T % LONG:
        if MARKED:
            tl.store(marks + (T // LONG) * n + offsets, v, mask=inside)
        v = _run(
            T // LONG * LONG, v, x, far, n, offsets, inside, theta, tau, spikes, before, seen, keep,
            HARD, TRACED, SEEN, T % LONG,
        )  # fmt: skip
    tl.store(after + offsets, v, mask=inside)


@triton.jit
@no_type_check
def _run_back(
    first, v, dv, total, d_theta, d_tau, x, far, n, offsets, inside, theta, tau,
    ds, dx, slopes, slope_far, mean, deviation, width, rho, c0, c1,
    HARD: tl.constexpr, THROUGH: tl.constexpr, TEMPORAL: tl.constexpr, AVERAGED: tl.constexpr,
    CURVE: tl.constexpr, SEEN: tl.constexpr, DS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Some steps back to ``first``, at which the membrane was ``v`` before its leak."""
    us = ()
    last = v
    for i in tl.static_range(STEPS):
        u = tau * last + tl.load(x + (first + i) * far + offsets, mask=inside, other=0.0).to(
            tl.float32
        )
        us = us + (u,)  # noqa: RUF005  the compiler knows no star
        _, last = _reset(u, theta, HARD)
    for j in tl.static_range(STEPS):
        here = (first + (STEPS - 1 - j)) * n + offsets
        u = us[STEPS - 1 - j]
        distance = u - theta
        s = tl.where(distance >= 0.0, 1.0, 0.0)
        if CURVE == GIVEN:
            at = (first + (STEPS - 1 - j)) * slope_far + offsets
            g = tl.load(slopes + at, mask=inside, other=0.0)
        elif SEEN:
            m = tl.load(mean + here, mask=inside, other=0.0)
            d = tl.load(deviation + here, mask=inside, other=0.0)
            one = tl.full(u.shape, 1.0, tl.float32)
            alpha = tl.div_rn(one, m + rho * d + 1e-4) * width
            g = alpha * _slope(CURVE, c0, c1, alpha * distance)
        else:
            g = _slope(CURVE, c0, c1, distance)
        e = tl.full(u.shape, 0.0, tl.float32)
        if DS:
            e = tl.load(ds + here, mask=inside, other=0.0).to(tl.float32)
        if THROUGH:
            e = e - (u if HARD else theta) * dv
        d_u = g * e
        d_theta -= d_u
        if TEMPORAL:
            if HARD:
                d_u = d_u + dv * (1.0 - s)
            else:
                d_theta -= s * dv
                d_u = d_u + dv
        if AVERAGED:
            total += d_u
        else:
            tl.store(dx + here, d_u.to(dx.dtype.element_ty), mask=inside)
        earlier = v
        if STEPS - 1 - j > 0:
            _, earlier = _reset(us[STEPS - 2 - j], theta, HARD)
        d_tau += d_u * earlier
        dv = tau * d_u if TEMPORAL else d_u * 0.0
    return dv, total, d_theta, d_tau


@triton.jit
@no_type_check
def backward(
    x, far, n, start, theta, tau, marks, ds, d_after, slopes, slope_far, mean, deviation,
    width, rho, c0, c1, dx, d_start, sums,
    LEARNED: tl.constexpr, HARD: tl.constexpr, STARTED: tl.constexpr, MARKED: tl.constexpr,
    THROUGH: tl.constexpr, TEMPORAL: tl.constexpr, AVERAGED: tl.constexpr, CURVE: tl.constexpr,
    SEEN: tl.constexpr, DS: tl.constexpr, D_AFTER: tl.constexpr, D_START: tl.constexpr,
    T: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, far, slope_far = tl.cast(n, tl.int64), tl.cast(far, tl.int64), tl.cast(slope_far, tl.int64)
    offsets = tl.cast(tl.program_id(0), tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    if LEARNED:
        theta, tau = tl.load(theta), tl.load(tau)
    zero = tl.full((BLOCK,), 0.0, tl.float32)
    dv, total, d_theta, d_tau, v = zero, zero, zero, zero, zero
    if D_AFTER:
        dv = tl.load(d_after + offsets, mask=inside, other=0.0)
    if STARTED:
        v = tl.load(start + offsets, mask=inside, other=0.0)
    if T % LONG:
        if MARKED:
            v = tl.load(marks + (T // LONG) * n + offsets, mask=inside, other=0.0)
        dv, total, d_theta, d_tau = _run_back(
            T // LONG * LONG, v, dv, total, d_theta, d_tau, x, far, n, offsets, inside, theta, tau,
            ds, dx, slopes, slope_far, mean, deviation, width, rho, c0, c1,
            HARD, THROUGH, TEMPORAL, AVERAGED, CURVE, SEEN, DS, T % LONG,
        )  # fmt: skip
    for k in range(T // LONG):
        at = T // LONG - 1 - k
        if MARKED:
            v = tl.load(marks + at * n + offsets, mask=inside, other=0.0)
        dv, total, d_theta, d_tau = _run_back(
            at * LONG, v, dv, total, d_theta, d_tau, x, far, n, offsets, inside, theta, tau,
            ds, dx, slopes, slope_far, mean, deviation, width, rho, c0, c1,
            HARD, THROUGH, TEMPORAL, AVERAGED, CURVE, SEEN, DS, LONG,
        )  # fmt: skip
    if AVERAGED:
        mean_slope = tl.div_rn(total, zero + T)
        tl.store(dx + offsets, mean_slope.to(dx.dtype.element_ty), mask=inside)
    if D_START:
        tl.store(d_start + offsets, dv, mask=inside)
    if LEARNED:
        block = sums + 2 * tl.program_id(0)
        tl.store(block, tl.sum(tl.where(inside, d_theta, 0.0).to(tl.float64)))
        tl.store(block + 1, tl.sum(tl.where(inside, d_tau, 0.0).to(tl.float64)))
