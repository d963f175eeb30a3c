"""The loops of the fused kernel, compiled by Numba at their first call and kept on disk.

Elements are independent of each other, so a block of them runs through all its steps while its
state stays in the cache, and every train passes through memory once each way. The
arithmetic is the reference's, in its order and without contraction; only exponentials and the
triangle's division by a width differ, by a few units in the last place. Importing this module
imports Numba.
"""
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0915, C901  Numba reads types from values, and
# a compiled loop takes all that it needs by its place.

from __future__ import annotations

import math
from typing import Final, no_type_check

import numpy as np
from numba import njit

TRIANGLE, RECTANGLE, ATAN, SIGMOID, GAUSSIAN, EXPONENTIAL, STRAIGHT, GIVEN = range(8)

_0, _1, _HALF, _TINY = (np.float32(c) for c in (0, 1, 0.5, 1e-4))
_LEAST, _LOG2E = np.float32(-104), np.float32(math.log2(math.e))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_E3, _E4, _E5 = (np.float32(c) for c in (1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3))
_E6, _E7 = np.float32(1.3981999507e-3), np.float32(1.9875691500e-4)

_BIAS, _SHIFT, _ONE = np.int32(127), np.int32(23), np.int32(1)

_inlined: Final = {"inline": "always", "error_model": "numpy"}
_compiled: Final = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(**_inlined)
@no_type_check
def _exp(x):
    """The exponential of what is not positive, in a form that runs over vectors."""
    z = x if x > _LEAST else _LEAST
    n = np.float32(math.floor(z * _LOG2E + _HALF))
    r = z - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    y = ((((_E7 * r + _E6) * r + _E5) * r + _E4) * r + _E3) * r + _HALF
    y = y * (r * r) + r + _1
    whole = np.int32(n)
    half = np.int32(whole >> _ONE)  # two factors reach the numbers below the normal ones
    y = y * np.int32((half + _BIAS) << _SHIFT).view(np.float32)
    y = y * np.int32((whole - half + _BIAS) << _SHIFT).view(np.float32)
    y = y if x > _LEAST else _0
    return y if x == x else x


@njit(**_inlined)
@no_type_check
def _slope(kind, c0, c1, v):
    """The slope of a curve at distance ``v``; ``_fused`` says what the constants are."""
    if kind == TRIANGLE:
        return (_0 if c0 - abs(v) < _0 else c0 - abs(v)) * c1
    if kind == RECTANGLE:
        return c1 if abs(v) < c0 else _0
    if kind == ATAN:
        return _1 / (_1 + (c0 * v) * (c0 * v)) * c1
    if kind == SIGMOID:
        e = _exp(-abs(c0 * v))
        return c0 * (e / ((_1 + e) * (_1 + e)))
    if kind == GAUSSIAN:
        return c1 * _exp(-((c0 * v) * (c0 * v)) * _HALF)
    if kind == EXPONENTIAL:
        return c1 * _exp(-c0 * abs(v))
    return _1


@njit(**_inlined)
@no_type_check
def _slopes_of(kind, c0, c1, theta, u, out):
    for i in range(len(out)):
        out[i] = _slope(kind, c0, c1, u[i] - theta)


@njit(**_compiled)
@no_type_check
def _slopes(kind, c0, c1, theta, u, out):
    """Writes a curve's slopes; a branch for each curve, so that each loop runs over vectors."""
    if kind == TRIANGLE:
        _slopes_of(TRIANGLE, c0, c1, theta, u, out)
    elif kind == RECTANGLE:
        _slopes_of(RECTANGLE, c0, c1, theta, u, out)
    elif kind == ATAN:
        _slopes_of(ATAN, c0, c1, theta, u, out)
    elif kind == SIGMOID:
        _slopes_of(SIGMOID, c0, c1, theta, u, out)
    elif kind == GAUSSIAN:
        _slopes_of(GAUSSIAN, c0, c1, theta, u, out)
    elif kind == EXPONENTIAL:
        _slopes_of(EXPONENTIAL, c0, c1, theta, u, out)
    elif kind == STRAIGHT:
        _slopes_of(STRAIGHT, c0, c1, theta, u, out)


@njit(**_compiled)
@no_type_check
def _sharpened(kind, c0, c1, theta, sharpen, mean, deviation, u, alpha, v, g):
    """Writes the slope of a curve that every element sharpens by its own ``alpha``."""
    width, rho = sharpen
    if kind == ATAN:  # the rule's usual curve, in one go
        for i in range(len(g)):
            a = _1 / (mean[i] + rho * deviation[i] + _TINY) * width
            g[i] = a * _slope(ATAN, c0, c1, a * (u[i] - theta))
        return
    for i in range(len(g)):
        a = _1 / (mean[i] + rho * deviation[i] + _TINY) * width
        alpha[i] = a
        v[i] = a * (u[i] - theta)
    _slopes(kind, c0, c1, _0, v, g)
    for i in range(len(g)):
        g[i] = alpha[i] * g[i]


@njit(**_inlined)
@no_type_check
def _step(x, v, theta, tau, hard, u, s):
    """One step of a block; ``v`` is the membrane after the reset, before and after the call."""
    for i in range(len(v)):
        before = tau * v[i] + x[i]
        spike = _1 if before - theta >= _0 else _0
        v[i] = before * (_1 - spike) if hard else before - theta * spike
        if u is not None:
            u[i] = before
        if s is not None:
            s[i] = spike


@njit(**_compiled)
@no_type_check
def _observe(u, theta, keep, old_mean, old_deviation, mean, deviation):
    """Moves the running means of the distance to the threshold and of its deviation."""
    keep_mean, take_mean, keep_deviation, take_deviation = keep
    for i in range(len(u)):
        distance = abs(u[i] - theta)
        m = keep_mean * old_mean[i] + take_mean * distance
        mean[i] = m
        moved = take_deviation * abs(distance - m)
        deviation[i] = keep_deviation * old_deviation[i] + moved


@njit(**_compiled)
@no_type_check
def _load(block, values, begin, absent):
    if len(values):
        block[:] = values[begin : begin + len(block)]
    else:
        block[:] = absent


@njit(**_compiled)
@no_type_check
def forward(
    x, stride, steps, start, theta, tau, hard, spikes, after, before, seen, keep, part
):  # fmt: skip
    """Runs a part of the elements, given as begin, end and the size of a block.

    Absent arrays are empty. ``before`` takes the membranes before their reset; ``seen`` are the
    old and the new means of an adaptive rule, which are only moved where those are taken.
    """
    n = len(after)
    low, high, block = part
    old_mean, old_deviation, mean, deviation = seen
    scratch = np.empty((2, min(block, high - low)), np.float32)
    for begin in range(low, high, block):
        end = min(begin + block, high)
        v, m, d = after[begin:end], scratch[0, : end - begin], scratch[1, : end - begin]
        _load(v, start, begin, _0)
        m[:] = _1  # where nothing is remembered
        d[:] = _0
        for t in range(steps):
            here = t * n + begin
            current = x[t * stride + begin : t * stride + end]
            s = spikes[here : t * n + end]
            if not len(before):
                _step(current, v, theta, tau, hard, None, s)
                continue
            u = before[here : t * n + end]
            _step(current, v, theta, tau, hard, u, s)
            if len(mean):
                if len(old_mean):
                    m, d = old_mean[here : t * n + end], old_deviation[here : t * n + end]
                new = mean[here : t * n + end], deviation[here : t * n + end]
                _observe(u, theta, keep, m, d, new[0], new[1])


@njit(**_inlined)
@no_type_check
def _back_of(kind, c0, c1, u, g, ds, dv, theta, tau, hard, through, temporal, dx):
    for i in range(len(dv)):
        v = u[i] - theta
        spike = _1 if v >= _0 else _0
        e = ds[i] - (u[i] if hard else theta) * dv[i] if through else ds[i]
        d = (g[i] if kind == GIVEN else _slope(kind, c0, c1, v)) * e
        if temporal:
            d = d + (dv[i] * (_1 - spike) if hard else dv[i])
        dx[i] = d
        dv[i] = tau * d if temporal else _0


@njit(**_compiled)
@no_type_check
def _back(kind, c0, c1, u, g, ds, dv, theta, tau, hard, through, temporal, dx):
    """One step back; ``dv`` is the gradient of the membrane after the reset.

    The curves that nets are trained with are computed on the way; the others come in ``g``.
    """
    if kind == TRIANGLE:
        _back_of(TRIANGLE, c0, c1, u, g, ds, dv, theta, tau, hard, through, temporal, dx)
    elif kind == ATAN:
        _back_of(ATAN, c0, c1, u, g, ds, dv, theta, tau, hard, through, temporal, dx)
    else:
        _back_of(GIVEN, c0, c1, u, g, ds, dv, theta, tau, hard, through, temporal, dx)


@njit(**_compiled)
@no_type_check
def _crossed(u, g, ds, dv, theta, hard, through, temporal, d_theta):
    """Adds the threshold's part of a step, before ``_back`` moves ``dv``."""
    for i in range(len(dv)):
        spike = _1 if u[i] - theta >= _0 else _0
        e = ds[i] - (u[i] if hard else theta) * dv[i] if through else ds[i]
        d_theta[i] = d_theta[i] - g[i] * e - (spike * dv[i] if temporal and not hard else _0)


@njit(**_compiled)
@no_type_check
def _leaked(u, dx, theta, hard, d_tau):
    """Adds the leak's part: the current's gradient times the membrane that leaked into it."""
    for i in range(len(u)):
        spike = _1 if u[i] - theta >= _0 else _0
        d_tau[i] += dx[i] * (u[i] * (_1 - spike) if hard else u[i] - theta * spike)


@njit(**_compiled)
@no_type_check
def _total(values):
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@njit(**_compiled)
@no_type_check
def _accumulated(total, out, last):
    for i in range(len(total)):
        total[i] += out[i]
    if last:
        for i in range(len(total)):
            total[i] /= last


@njit(**_compiled)
@no_type_check
def backward(
    before, start, theta, tau, how, curve, slopes, seen, sharpen,
    ds, d_after, dx, d_start, sums, part,
):  # fmt: skip
    """Runs a part of the elements back; absent arrays are empty.

    ``dx`` of one step takes the mean over time. ``sums`` takes the gradients of theta and tau of
    every block, so that their totals do not depend on who computed what.
    """
    steps, hard, through, temporal, averaged = how
    n = len(ds) // steps
    low, high, block = part
    kind, c0, c1 = curve
    mean, deviation = seen
    buffers = np.empty((7, min(block, high - low)), np.float32)
    for begin in range(low, high, block):
        end = min(begin + block, high)
        size = end - begin
        dv, slope, v = buffers[0, :size], buffers[1, :size], buffers[2, :size]
        d_theta, d_tau, out = buffers[3, :size], buffers[4, :size], buffers[5, :size]
        alpha = buffers[6, :size]
        _load(dv, d_after, begin, _0)
        d_theta[:] = _0
        d_tau[:] = _0
        if averaged:
            dx[begin:end] = _0
        for t in range(steps - 1, -1, -1):
            here, stop = t * n + begin, t * n + end
            u, g, given = before[here:stop], slope, GIVEN
            if kind == GIVEN:
                row = here if len(slopes) > n else begin
                g = slopes[row : row + size]
            elif len(mean):
                means = mean[here:stop], deviation[here:stop]
                _sharpened(kind, c0, c1, theta, sharpen, means[0], means[1], u, alpha, v, g)
            elif len(sums) or (kind != TRIANGLE and kind != ATAN):
                _slopes(kind, c0, c1, theta, u, g)
            else:
                given = kind
            if len(sums):
                _crossed(u, g, ds[here:stop], dv, theta, hard, through, temporal, d_theta)
            if not averaged:
                out = dx[here:stop]
            _back(given, c0, c1, u, g, ds[here:stop], dv, theta, tau, hard, through, temporal, out)
            if averaged:
                _accumulated(dx[begin:end], out, _0 if t else np.float32(steps))
            if len(sums) and t:
                _leaked(before[here - n : stop - n], out, theta, hard, d_tau)
            elif len(sums) and len(start):
                _load(v, start, begin, _0)
                for i in range(size):
                    d_tau[i] += out[i] * v[i]
        if len(d_start):
            d_start[begin:end] = dv
        if len(sums):
            sums[begin // block, 0] = _total(d_theta)
            sums[begin // block, 1] = _total(d_tau)
