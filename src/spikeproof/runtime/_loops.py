"""The sparse engine's loops, compiled by Numba at their first call and kept on disk.

A map lies channel by channel, within a channel position by position, within a position step by
step; zeros around it are part of it, the right ones of a row being the left ones of the next. So
a weight meets one run over all positions and steps, and an event all its steps at once.
"""
# ruff: noqa: ANN001, ANN202, PLR0913, C901, SIM110  Numba reads types from values

from __future__ import annotations

from typing import Final, no_type_check

import numpy as np
from numba import njit

from spikeproof.runtime._vectors import LANES, add_runs, any_of, fire8, merge, scatter

WEIGHTED, NEURONS, MAX, AVG, AFFINE, ADD, SPLIT, COPY = range(8)
BLOCKS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)  # vectors that are summed at once

OP = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind", "channels", "rows", "cols", "lanes", "steps",
            "src", "src_plane", "src_pitch", "src_lanes",
            "src2", "src2_plane", "src2_pitch",
            "dst", "dst_plane", "dst_pitch", "dst_lanes",
            "run", "block", "first", "bias",
            "scratch", "scratch_plane", "scratch_start", "spikes",
            "fires", "hard", "state", "state_plane", "resting",
            "window_y", "window_x", "step_y", "step_x", "pad_y", "pad_x", "high", "wide",
            "in_channels", "in_first", "in_plane", "in_pitch", "in_at", "events", "source",
            "place", "execution",
        )
    ]
    + [(name, np.float32) for name in ("theta", "tau", "left", "right")]
    + [(name, np.float64) for name in ("weight_cost", "event_cost", "scan_cost")]
)  # fmt: skip
"""One operation: where it reads and writes in the arena, in floats, and its numbers."""

_compiled: Final = {"nogil": True, "cache": True, "error_model": "numpy"}
_0, _1 = np.float32(0), np.float32(1)


@njit(**_compiled)
@no_type_check
def _runs(arena, at, bias, base, offsets, values, begin, end, total, block):
    """Sums the weights of one output channel into its run, one block of vectors after the other."""
    for j in range(0, total, block * LANES):
        a, b = at + j, base + j
        if block == 1:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 1)
        elif block == 2:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 2)
        elif block == 3:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 3)
        elif block == 4:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 4)
        elif block == 5:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 5)
        elif block == 6:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 6)
        elif block == 7:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 7)
        elif block == 8:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 8)
        elif block == 10:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 10)
        elif block == 12:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 12)
        else:
            add_runs(arena, a, bias, arena, b, offsets, values, begin, end, 14)


@njit(**_compiled)
@no_type_check
def _active(arena, at, lanes):
    """Whether anything happens at a place in any step."""
    if lanes == 8:
        return any_of(arena, at, 8)
    if lanes % 4 == 0:
        for j in range(0, lanes, 4):
            if any_of(arena, at + j, 4):
                return True
        return False
    for j in range(lanes):
        if arena[at + j] != _0:
            return True
    return False


@njit(**_compiled)
@no_type_check
def _fire(op, arena, x, state, out, count):
    """Runs neurons over all steps; where steps come in eights, eight neurons at a time.

    Returns how many fired, those between the rows included.
    """
    lanes, steps = op.dst_lanes, op.steps
    held = op.src_lanes == 1
    if steps % LANES:
        return _fire_one_by_one(op, arena, x, state, out, count)
    active = 0
    for p in range(0, count, LANES):
        for t in range(0, steps, LANES):
            to = out + p * lanes + t
            at = x + p if held else x + p * lanes + t
            s = state + p
            if op.hard and held:
                fired = fire8(arena, at, lanes, arena, s, arena, to, op.theta, op.tau, 1, 1)
            elif op.hard:
                fired = fire8(arena, at, lanes, arena, s, arena, to, op.theta, op.tau, 1, 0)
            elif held:
                fired = fire8(arena, at, lanes, arena, s, arena, to, op.theta, op.tau, 0, 1)
            else:
                fired = fire8(arena, at, lanes, arena, s, arena, to, op.theta, op.tau, 0, 0)
            active += fired
    return active


@njit(**_compiled)
@no_type_check
def _fire_one_by_one(op, arena, x, state, out, count):
    held, lanes, theta, tau = op.src_lanes == 1, op.dst_lanes, op.theta, op.tau
    active = 0
    for p in range(count):
        v = arena[state + p]
        total = _0
        for t in range(op.steps):
            u = tau * v + arena[x + p if held else x + p * lanes + t]
            spike = _1 if u - theta >= _0 else _0
            v = u * (_1 - spike) if op.hard else u - theta * spike
            arena[out + p * lanes + t] = spike
            total += spike
        arena[state + p] = v
        active += total > _0
    return active


@njit(**_compiled)
@no_type_check
def _finish(op, arena, channel, at, begun, kept):
    """Takes a channel's run of currents through its neurons, if it has any, to where it belongs.

    Returns at about how many places something happened.
    """
    pitch, lanes, active = op.src_pitch, op.dst_lanes, 0
    target = op.dst + channel * op.dst_plane
    if op.fires:
        count = (op.rows - 1) * pitch + op.cols
        state = op.state + channel * op.state_plane if kept else op.resting
        if not begun:
            arena[state : state + op.state_plane] = _0
        straight = pitch == op.dst_pitch
        out = target if straight else op.spikes
        active = _fire(op, arena, at, state, out, count)
        if straight:  # what neurons between the rows did is no part of the map
            gap = (pitch - op.cols) * lanes
            for y in range(op.rows - 1):
                hole = target + (y * pitch + op.cols) * lanes
                for j in range(hole, hole + gap):
                    arena[j] = _0
            for j in range(target + count * lanes, target + op.state_plane * lanes):
                arena[j] = _0
            return active
        at = op.spikes
    length = op.cols * lanes
    for y in range(op.rows):
        start = at + y * pitch * lanes
        to = target + y * op.dst_pitch * lanes
        arena[to : to + length] = arena[start : start + length]
        if not op.fires:
            for x in range(op.cols):
                active += _active(arena, start + x * lanes, lanes)
    return active


@njit(**_compiled)
@no_type_check
def _by_weights(op, arena, rows, offsets, values, biases, begun, kept):
    """Executes a layer weight by weight: each meets one run over all positions and steps."""
    active, at = 0, op.scratch + op.scratch_start
    for o in range(op.channels):
        bias = biases[op.bias + o]
        begin, end = rows[op.first + o], rows[op.first + o + 1]
        _runs(arena, at, bias, op.src, offsets, values, begin, end, op.run, op.block)
        active += _finish(op, arena, o, at, begun, kept)
    return active


@njit(**_compiled)
@no_type_check
def _by_events(op, arena, rows, offsets, values, biases, begun, kept):
    """Executes a layer event by event: each adds its kept weights to what they reach."""
    for o in range(op.channels):
        at = op.scratch + o * op.scratch_plane
        arena[at : at + op.scratch_plane] = biases[op.bias + o]
    lanes, phases = op.src_lanes, op.step_y * op.step_x
    for c in range(op.in_channels):
        for y in range(op.high):
            line = op.in_at + c * op.in_plane + y * op.in_pitch * lanes
            fold_y, phase_y = (y + op.pad_y) // op.step_y, (y + op.pad_y) % op.step_y
            for x in range(op.wide):
                place = line + x * lanes
                if not _active(arena, place, lanes):
                    continue
                fold_x, phase_x = (x + op.pad_x) // op.step_x, (x + op.pad_x) % op.step_x
                row = op.in_first + c * phases + phase_y * op.step_x + phase_x
                begin, end = rows[row], rows[row + 1]
                at = op.scratch + op.scratch_start + (fold_y * op.src_pitch + fold_x) * lanes
                if lanes % 8 == 0:
                    for j in range(0, lanes, 8):
                        a, b = at + j, place + j
                        scatter(arena, a, offsets, values, begin, end, arena, b, 8)
                elif lanes % 4 == 0:
                    for j in range(0, lanes, 4):
                        a, b = at + j, place + j
                        scatter(arena, a, offsets, values, begin, end, arena, b, 4)
                else:
                    scatter(arena, at, offsets, values, begin, end, arena, place, 1)
    active = 0
    for o in range(op.channels):
        start = op.scratch + o * op.scratch_plane + op.scratch_start
        active += _finish(op, arena, o, start, begun, kept)
    return active


@njit(**_compiled)
@no_type_check
def _merged(arena, to, at, step, count, lanes, largest):
    """Lets a row of places, ``step`` floats apart, take part in the windows of a row."""
    if lanes == 8 and largest:
        for x in range(count):
            merge(arena, to + 8 * x, at + step * x, 1, 8)
    elif lanes == 8:
        for x in range(count):
            merge(arena, to + 8 * x, at + step * x, 0, 8)
    else:
        for x in range(count):
            for t in range(lanes):
                value, other = arena[to + x * lanes + t], arena[at + step * x + t]
                joined = max(value, other) if largest else value + other
                arena[to + x * lanes + t] = joined


@njit(**_compiled)
@no_type_check
def _pool(op, arena):
    """The largest value or the mean of windows, places outside of the map counting as zeros."""
    active, lanes, largest = 0, op.lanes, op.kind == MAX
    area, empty = np.float32(op.window_y * op.window_x), np.float32(-np.inf) if largest else _0
    step = op.step_x * lanes
    for c in range(op.channels):
        source, target = op.src + c * op.src_plane, op.dst + c * op.dst_plane
        for y in range(op.rows):
            to, top = target + y * op.dst_pitch * lanes, y * op.step_y - op.pad_y
            end = to + op.cols * lanes
            for j in range(to, end):
                arena[j] = empty
            for v in range(max(top, 0), min(top + op.window_y, op.high)):
                for u in range(op.window_x):
                    shift = u - op.pad_x
                    first = max(0, -(shift // op.step_x))
                    last = min(op.cols, (op.wide - 1 - shift) // op.step_x + 1)
                    at = source + (v * op.src_pitch + first * op.step_x + shift) * lanes
                    _merged(arena, to + first * lanes, at, step, last - first, lanes, largest)
            if not largest:
                for j in range(to, end):
                    arena[j] /= area
            for x in range(op.cols):
                active += _active(arena, to + x * lanes, lanes)
    return active


@njit(**_compiled)
@no_type_check
def _elementwise(op, arena, biases):
    """A scale and shift of every channel, or a weighted sum of two maps."""
    active, lanes = 0, op.lanes
    for c in range(op.channels):
        scale, shift = op.left, _0
        if op.kind == AFFINE:
            scale, shift = biases[op.bias + c], biases[op.bias + op.channels + c]
        for y in range(op.rows):
            source = op.src + c * op.src_plane + y * op.src_pitch * lanes
            other = op.src2 + c * op.src2_plane + y * op.src2_pitch * lanes
            target = op.dst + c * op.dst_plane + y * op.dst_pitch * lanes
            for j in range(op.cols * lanes):
                value = arena[source + j] * scale
                value += shift if op.kind == AFFINE else arena[other + j] * op.right
                arena[target + j] = value
            for x in range(op.cols):
                active += _active(arena, target + x * lanes, lanes)
    return active


@njit(**_compiled)
@no_type_check
def _split(op, arena):
    """Puts the places that a stride visits side by side; a copy has strides of its own map."""
    lanes = op.lanes
    for c in range(op.channels):
        for y in range(op.high):
            for x in range(op.wide):
                at = op.src + c * op.src_plane + (y * op.src_pitch + x) * lanes
                v, u = y + op.pad_y, x + op.pad_x
                phase = (v % op.step_y) * op.step_x + u % op.step_x
                place = (v // op.step_y) * op.dst_pitch + u // op.step_x
                to = op.dst + c * op.dst_plane + phase * op.window_y + place * lanes
                for t in range(lanes):
                    arena[to + t] = arena[at + t]
    return 0


@njit(**_compiled)
@no_type_check
def execute(code, arena, rows, offsets, values, biases, actives, chosen, begun, kept):
    """Runs all operations for one sample.

    ``actives`` takes at how many places of a map anything happened, ``chosen`` which layers went
    event by event. Membranes go on from where they are if ``begun``, and stay if ``kept``.
    """
    for i in range(len(code)):
        op = code[i]
        if op.kind == WEIGHTED:
            events = op.execution == 1
            if op.execution == 2:
                cost = op.scan_cost + actives[op.source] * op.event_cost
                events = cost < op.weight_cost
            chosen[i] = events
            if events:
                active = _by_events(op, arena, rows, offsets, values, biases, begun, kept)
            else:
                active = _by_weights(op, arena, rows, offsets, values, biases, begun, kept)
            actives[op.place] = active
        elif op.kind == NEURONS:
            active = 0
            for c in range(op.channels):
                active += _finish(op, arena, c, op.src + c * op.src_plane, begun, kept)
            actives[op.place] = active
        elif op.kind == MAX or op.kind == AVG:
            actives[op.place] = _pool(op, arena)
        elif op.kind == AFFINE or op.kind == ADD:
            actives[op.place] = _elementwise(op, arena, biases)
        else:
            _split(op, arena)
