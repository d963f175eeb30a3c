"""The Triton kernel: neurons on a GPU, one pass over memory forward and one backward.

Kept for the backward pass are the currents, as they came, and of long trains the membrane at every
``SEGMENT``-th step: to compute the membranes again costs arithmetic, which a GPU has in plenty. It
adds and multiplies in the reference's order and without contraction, so spikes are its bit for bit.
With TRITON_INTERPRET=1 before the import it runs on the CPU, slowly, for tests. Importing this
module imports Triton.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from spikeproof.spiking import _curves, _programs
from spikeproof.spiking._reference import How, refuse_second_derivative
from spikeproof.spiking._rules import ASSG, Memory, Trace

Seen = tuple[Tensor | None, Tensor | None]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOW = (torch.bfloat16, torch.float16)
BLOCK = 1 << 14 if INTERPRETED else 512  # elements of a program: 16 bytes a thread in float32,
FEWER = BLOCK // 2  # and 8 where a segment is long, so that the registers last
SEGMENT = 16  # membranes that a thread holds in registers, of each of its elements
EXACT = {"num_warps": 4, "enable_fp_fusion": False}  # tau u + x rounds twice, as the reference's
NOTHING: Seen = (None, None)


def serves(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
) -> bool:
    """Returns whether this kernel can run these neurons; the reference can run all."""
    given = [current] if membrane is None else [current, membrane]
    device = current.device
    return (
        how.curve is None
        and device.type == ("cpu" if INTERPRETED else "cuda")
        and all(type(x) in (Tensor, torch.nn.Parameter) for x in given)
        and all(x.device == device for x in given)
        and current.dtype in (torch.float32, *LOW)
        and all(x.dtype == torch.float32 and x.shape == current.shape[1:] for x in given[1:])
        and current.numel() > 0
        and all(not isinstance(p, Tensor) or p.dim() == 0 for p in (theta, tau))
        and not how.pooled
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
    """Returns the spikes, in the current's type, and the membrane after the last reset."""
    current = how.held(current)
    if torch.is_grad_enabled():
        return _Triton.apply(current, membrane, theta, tau, how)
    return _fired(current, membrane, theta, tau, how, tracked=False)[:2]


def _numbers(
    theta: Tensor | float, tau: Tensor | float, like: Tensor
) -> tuple[Tensor, Tensor] | tuple[float, float]:
    """Returns both as numbers, or both as tensors on the device where one of them is learned."""
    if not isinstance(theta, Tensor) and not isinstance(tau, Tensor):
        return theta, tau
    both = (torch.as_tensor(p).detach() for p in (theta, tau))
    first, second = (p.to(like.device, torch.float32) for p in both)
    return first, second


def _order(x: Tensor) -> tuple[int, ...]:
    """Returns the axes with time first and the others as they lie in memory, the slowest first."""
    return 0, *sorted(range(1, x.dim()), key=x.stride, reverse=True)


def _rows(x: Tensor, order: tuple[int, ...]) -> Tensor:
    return x.detach().permute(order).contiguous()


def _row(x: Tensor | None, order: tuple[int, ...]) -> Tensor | None:
    return None if x is None else _rows(x.unsqueeze(0), order)


def _back(lying: Tensor, order: tuple[int, ...]) -> Tensor:
    """Returns rows as a tensor whose axes stand as the current's do."""
    return lying.permute([order.index(axis) for axis in range(len(order))])


def _blocks(x: Tensor) -> tuple[int, int]:
    """Returns how many programs run, and how many elements each takes."""
    size = BLOCK if len(x) <= SEGMENT // 2 else FEWER
    return -(-x[0].numel() // size), size


def _launch(program: Any, x: Tensor, *arguments: Any, **known: Any) -> None:
    count, size = _blocks(x)
    shared = {"T": len(x), "LONG": min(len(x), SEGMENT), "BLOCK": size, **EXACT}
    with torch.cuda.device_of(x):
        program[(count,)](x, x.stride(0), x[0].numel(), *arguments, **known, **shared)


def _fired(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
    *,
    tracked: bool,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Returns spikes and last membrane; where a gradient is tracked, what it needs besides."""
    rule, order = how.rule, _order(current)
    x = current.detach().permute(order)
    x = x if x[0].is_contiguous() else x.contiguous()
    steps = len(x)

    def new(steps: int) -> Tensor:
        return x.new_empty((steps, *x.shape[1:]), dtype=torch.float32)

    spikes, after = x.new_empty(x.shape), new(1)
    marks = new(-(-steps // SEGMENT)) if tracked and steps > SEGMENT else None
    asked = tracked and _curves.curve(rule)[0] == _curves.GIVEN
    before = new(steps) if asked else None
    adaptive = tracked and not asked and isinstance(rule, ASSG)
    old, means = _remembered(current, how, order) if adaptive else (NOTHING, NOTHING)
    moved = (new(steps), new(steps)) if adaptive and means[0] is None else None
    numbers = _numbers(theta, tau, x)
    _launch(
        _programs.forward, x, _row(membrane, order), *numbers, spikes, after, marks, before,
        *old, *(moved or NOTHING), *(float(share) for share in _curves.keeping(rule)),
        LEARNED=isinstance(numbers[0], Tensor), HARD=how.hard, STARTED=membrane is not None,
        MARKED=marks is not None, TRACED=asked,
        SEEN=0 if moved is None else 1 if old[0] is None else 2,
    )  # fmt: skip
    if moved is not None and how.memory is not None and not how.memory.frozen:
        how.memory.means = _back(moved[0], order), _back(moved[1], order)
    out, slopes = _back(spikes, order), None
    if before is not None:
        trace = Trace(current.detach().float(), _back(before, order), out.float(), theta, tau)
        slopes = how.rule.slopes(trace, how.memory).expand(-1, *current.shape[1:])
        slopes = _rows(slopes.float(), order)
    return out, _back(after, order)[0], [x, marks, slopes, *(moved or means)]


def _remembered(current: Tensor, how: How, order: tuple[int, ...]) -> tuple[Seen, Seen]:
    """Returns an adaptive rule's means before this call, and those it uses if they stay so."""
    rule, memory = how.rule, how.memory or Memory()
    known = rule.recalled(current.shape, memory) if isinstance(rule, ASSG) else None
    if known is None:
        return NOTHING, NOTHING
    old = _rows(known[0], order), _rows(known[1], order)
    return old, old if memory.frozen else NOTHING


class _Triton(torch.autograd.Function):
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
        spikes, after, kept = _fired(current, membrane, theta, tau, how, tracked=tracked)
        if tracked:
            given = [p if isinstance(p, Tensor) else None for p in (theta, tau)]
            ctx.save_for_backward(membrane, *given, *kept)
            ctx.numbers = [
                p if g is None else None for p, g in zip((theta, tau), given, strict=True)
            ]
            ctx.how, ctx.order = how, _order(current)
        return spikes, after

    @staticmethod
    def backward(
        ctx: Any, d_spikes: Tensor | None, d_after: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        membrane, *given, x, marks, slopes, mean, deviation = ctx.saved_tensors
        theta, tau = (
            number if kept is None else kept
            for number, kept in zip(ctx.numbers, given, strict=True)
        )
        rule, order, needs = ctx.how.rule, ctx.order, ctx.needs_input_grad
        steps = len(x)
        numbers = _numbers(theta, tau, x)
        learned = isinstance(numbers[0], Tensor)
        dx = x.new_empty((1 if rule.averaged else steps, *x.shape[1:]))
        d_start = x.new_empty((1, *x.shape[1:]), dtype=torch.float32) if needs[1] else None
        sums = x.new_empty((_blocks(x)[0], 2), dtype=torch.float64) if learned else None
        curve, *constants = _curves.curve(rule)
        _launch(
            _programs.backward, x, _row(membrane, order), *numbers, marks,
            None if d_spikes is None else _rows(d_spikes, order), _row(d_after, order),
            slopes, 0 if slopes is None or len(slopes) == 1 else x[0].numel(), mean, deviation,
            *(float(c) for c in (*_curves.sharpening(rule), *constants)), dx, d_start, sums,
            LEARNED=learned, HARD=ctx.how.hard, STARTED=membrane is not None,
            MARKED=marks is not None, THROUGH=rule.temporal and not rule.detach_reset,
            TEMPORAL=rule.temporal, AVERAGED=rule.averaged, CURVE=curve, SEEN=mean is not None,
            DS=d_spikes is not None, D_AFTER=d_after is not None, D_START=d_start is not None,
        )  # fmt: skip
        totals: Any = NOTHING if sums is None else sums.sum(0)
        d_theta, d_tau = totals
        return (
            _back(dx, order).expand(steps, *(-1,) * (x.dim() - 1)),
            None if d_start is None else _back(d_start, order)[0],
            d_theta.to(theta) if needs[2] else None,
            d_tau.to(tau) if needs[3] else None,
            None,
        )
