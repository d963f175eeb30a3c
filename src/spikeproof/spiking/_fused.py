"""The fused kernel: float32 on the CPU, one pass over memory forward and one backward.

The membranes are kept for the backward pass and the currents are not; to compute the membranes
again takes longer than to write and read them. A step that lies densely in memory keeps its order
(channels last stays channels last); everything else is copied.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeproof.spiking import _loops
from spikeproof.spiking._reference import How, refuse_second_derivative
from spikeproof.spiking._rules import ASSG, BPTT, HART, Memory, Rule, Trace
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

Array = np.ndarray[Any, np.dtype[Any]]
Order = tuple[int, ...]
Seen = tuple[Tensor | None, Tensor | None]

NONE = np.empty(0, np.float32)
BLOCK = 32768  # elements: a long line for memory, a short one for a core's second cache
ALONE = 1 << 16  # values that one thread has passed before another one has started


def serves(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
) -> bool:
    """Returns whether this kernel can run these neurons; the reference can run all."""
    given = [current] if membrane is None else [current, membrane]
    return (
        how.curve is None
        and all(type(x) in (Tensor, torch.nn.Parameter) for x in given)
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in given)
        and all(x.shape == current.shape[1:] for x in given[1:])
        and current.numel() > 0
        and all(not isinstance(p, Tensor) or p.dim() == 0 for p in (theta, tau))
        and not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def integrate_and_fire(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
) -> tuple[Tensor, Tensor]:
    """Returns the spikes and the membrane after the last reset."""
    if torch.is_grad_enabled():
        return _Fused.apply(current, membrane, theta, tau, how)
    return _forward(current, membrane, theta, tau, how, tracked=False)[:2]


_CURVES: dict[type[Surrogate], Callable[[Any], tuple[int, Any, Any]]] = {
    Triangle: lambda s: (_loops.TRIANGLE, s.gamma, 1 / np.float32(s.gamma**2)),
    Rectangle: lambda s: (_loops.RECTANGLE, s.width / 2, 1 / np.float32(s.width)),
    ATan: lambda s: (_loops.ATAN, math.pi / 2 * s.alpha, s.alpha / 2),
    Sigmoid: lambda s: (_loops.SIGMOID, s.alpha, 0),
    Gaussian: lambda s: (_loops.GAUSSIAN, s.alpha, s.height),
    Exponential: lambda s: (_loops.EXPONENTIAL, s.beta, s.a),
    StraightThrough: lambda _: (_loops.STRAIGHT, 0, 0),
}


def _curve(rule: Rule) -> tuple[int, np.float32, np.float32]:
    """Returns the rule's curve as a number and two constants, or that its slopes are given."""
    kind, c0, c1 = _loops.GIVEN, 0.0, 0.0
    if isinstance(rule, BPTT | HART | ASSG) and type(rule) in (BPTT, HART, ASSG):
        known = _CURVES.get(type(rule.surrogate))
        kind, c0, c1 = known(rule.surrogate) if known else (kind, c0, c1)
    return kind, np.float32(c0), np.float32(c1)


def _sharpening(rule: Rule) -> tuple[np.float32, np.float32]:
    width, rho = (rule.width, rule.rho) if isinstance(rule, ASSG) else (0.0, 0.0)
    return np.float32(width), np.float32(rho)


def _keeping(rule: Rule) -> tuple[np.float32, ...]:
    keep = (rule.beta_mean, rule.beta_deviation) if isinstance(rule, ASSG) else (0.0, 0.0)
    return tuple(np.float32(share) for kept in keep for share in (kept, 1 - kept))


def _order(current: Tensor) -> Order:
    """Returns the axes after time as they lie in memory, the slowest first."""
    return tuple(sorted(range(1, current.dim()), key=current.stride, reverse=True))


def _flat(current: Tensor, order: Order) -> tuple[Array, int]:
    """Returns all steps as one line of values, and how far one step lies behind another."""
    dense = current.detach().permute(0, *order)
    if not dense[0].is_contiguous():
        dense = dense.contiguous()
    count, steps = dense[0].numel(), len(dense)
    stride = dense.stride(0) if steps > 1 else count
    return dense.as_strided(((steps - 1) * stride + count,), (1,)).numpy(), stride


def _rows(x: Tensor | None, order: Order) -> Array:
    """Returns a tensor over time as one line in the given order; nothing as an empty line."""
    return NONE if x is None else x.detach().permute(0, *order).contiguous().view(-1).numpy()


def _row(x: Tensor | None, order: Order) -> Array:
    return NONE if x is None else _rows(x.unsqueeze(0), order)


def _new(steps: int, like: Tensor, order: Order) -> tuple[Array, Tensor]:
    """Returns memory in the given order, as a line and as a tensor over time."""
    lying = torch.empty(steps, *(like.shape[axis] for axis in order))
    back = (order.index(axis) + 1 for axis in range(1, like.dim()))
    return lying.view(-1).numpy(), lying.permute(0, *back)


def _spread(run: Callable[[tuple[int, int, int]], None], count: int, steps: int) -> None:
    """Runs blocks of elements on as many threads as torch has, where there is enough to do.

    The compiled loops hold no lock of Python's; torch's own threads cannot be had from Python.
    """
    blocks = -(-count // BLOCK)
    threads = max(1, min(torch.get_num_threads(), blocks, count * steps // ALONE))
    edges = [min(blocks * i // threads * BLOCK, count) for i in range(threads)] + [count]
    first, *others = ((low, high, BLOCK) for low, high in pairwise(edges))
    waiting = [_pool().submit(run, part) for part in others]
    run(first)
    for other in waiting:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "spikeproof-neurons")


if hasattr(os, "register_at_fork"):  # a forked process has the pool and none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        membrane: Tensor | None,
        theta: Tensor | float,
        tau: Tensor | float,
        how: How,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        tracked = any(ctx.needs_input_grad)
        spikes, after, *extra = _forward(current, membrane, theta, tau, how, tracked=tracked)
        if tracked:
            ctx.save_for_backward(membrane, *extra)
            ctx.how, ctx.theta, ctx.tau = how, float(theta), float(tau)
        return spikes, after

    @staticmethod
    def backward(
        ctx: Any, d_spikes: Tensor | None, d_after: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        membrane, before, slopes, mean, deviation = ctx.saved_tensors
        rule: Rule = ctx.how.rule
        order, steps = _order(before), len(before)
        d_spikes = torch.zeros_like(before) if d_spikes is None else d_spikes
        dx, d_current = _new(1 if rule.averaged else steps, before, order)
        needs = ctx.needs_input_grad
        d_start, d_membrane = _new(1, before, order) if needs[1] else (NONE, None)
        n = before[0].numel()
        learned = needs[2] or needs[3]
        sums = np.zeros((-(-n // BLOCK) if learned else 0, 2))
        through = rule.temporal and not rule.detach_reset
        arguments = (
            _rows(before, order),
            _row(membrane, order),
            np.float32(ctx.theta),
            np.float32(ctx.tau),
            (steps, ctx.how.hard, through, rule.temporal, rule.averaged),
            _curve(rule),
            _rows(slopes, order),
            (_rows(mean, order), _rows(deviation, order)),
            _sharpening(rule),
            _rows(d_spikes, order),
            _row(d_after, order),
            dx,
            d_start,
            sums,
        )
        _spread(lambda part: _loops.backward(*arguments, part), n, steps)
        d_theta, d_tau = torch.from_numpy(sums.sum(0))
        return (
            d_current.expand(steps, *d_current.shape[1:]),
            None if d_membrane is None else d_membrane[0],
            d_theta if needs[2] else None,
            d_tau if needs[3] else None,
            None,
        )


def _forward(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
    *,
    tracked: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Returns spikes and last membrane; where a gradient is tracked, what it needs besides."""
    rule, memory = how.rule, how.memory or Memory()
    order, steps = _order(current), len(current)
    x, stride = _flat(current, order)
    flat_spikes, spikes = _new(steps, current, order)
    flat_after, after = _new(1, current, order)
    flat_before, before = _new(steps, current, order) if tracked else (NONE, None)
    means: Seen = (None, None)
    old, new = (NONE, NONE), (NONE, NONE)
    if tracked and isinstance(rule, ASSG):
        known = rule.recalled(current.shape, memory)
        if known is not None and memory.frozen:
            means = known
        else:
            old = (
                (NONE, NONE) if known is None else (_rows(known[0], order), _rows(known[1], order))
            )
            (flat_mean, mean), (flat_deviation, deviation) = (
                _new(steps, current, order) for _ in range(2)
            )
            new, means = (flat_mean, flat_deviation), (mean, deviation)
            if not memory.frozen:
                memory.mean, memory.deviation = means
    arguments = (
        x,
        stride,
        steps,
        _row(membrane, order),
        np.float32(float(theta)),
        np.float32(float(tau)),
        how.hard,
        flat_spikes,
        flat_after,
        flat_before,
        (*old, *new),
        _keeping(rule),
    )
    _spread(lambda part: _loops.forward(*arguments, part), current[0].numel(), steps)
    slopes = None
    if before is not None and _curve(rule)[0] == _loops.GIVEN:
        slopes = rule.slopes(Trace(current, before, spikes, theta, tau), how.memory)
    return spikes, after[0], before, slopes, *means
