"""The fused kernel: float32 on the CPU, one pass over memory forward and one backward.

The currents are kept for the backward pass, which computes the membranes again. A step that lies
densely in memory keeps its order (channels last stays channels last); everything else is copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from spikeproof.errors import Refusal
from spikeproof.spiking._curves import known_curve
from spikeproof.spiking._loops import Pass, backward, forward
from spikeproof.spiking._reference import How, refuse_second_derivative
from spikeproof.spiking._rules import ASSG, Means, Memory, Rule, Trace
from spikeproof.spiking._vectors import WIDTH, Loop

Order = tuple[int, ...]

STEPS = 8  # of one loop, whose membranes fit into the registers
BLOCK = 32768  # elements whose sums make one number, so that threads do not matter
PAST_CACHES = 1 << 25  # bytes of a train that no cache will hold until it is read
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
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and (not how.pooled or _pools(current, how))
    )


def _pools(current: Tensor, how: How) -> bool:
    return (
        known_curve(how.rule) is not None
        and current.dim() == 5
        and current.shape[2] > 1  # strides of one channel say nothing of its layout
        and current.shape[3] % 2 == current.shape[4] % 2 == 0
        and current[0].is_contiguous(memory_format=torch.channels_last)
    )


def integrate_and_fire(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
) -> tuple[Tensor, Tensor | None]:
    """Returns the spikes and, of what is not pooled, the membrane after the last reset."""
    if torch.is_grad_enabled():
        return _Fused.apply(current, membrane, theta, tau, how)
    return _forward(current, membrane, theta, tau, how, tracked=False)[:2]


class _Seen:
    """An adaptive rule's means after a pass, which its backward pass finds on its way."""

    def __init__(self, old: Lines, find: Callable[[], Means]) -> None:
        self.old, self.find = old, find
        self.found: Means | None = None

    def __call__(self) -> Means:
        return self.found or self.settle(self.find())

    def settle(self, found: Means) -> Means:
        self.found, self.old, self.find = found, {}, lambda: found
        return found


def _order(current: Tensor) -> Order:
    """Returns the axes after time as they lie in memory, the slowest first."""
    return tuple(sorted(range(1, current.dim()), key=current.stride, reverse=True))


def _dense(current: Tensor, order: Order) -> Tensor:
    """Returns currents every step of which lies densely in the given order; itself, if they do."""
    lying = current.permute(0, *order)
    return current if lying[0].is_contiguous() else _back(lying.contiguous(), order)


def _like(x: Tensor, order: Order) -> Tensor:
    """Returns a tensor over time that lies densely in the given order."""
    lying = x.permute(0, *order)
    return x if lying.is_contiguous() else _back(lying.contiguous(), order)


def _new(steps: int, like: Tensor, order: Order) -> Tensor:
    """Returns memory for this many steps in the given order."""
    sizes = (steps, *(like.shape[axis] for axis in order))
    return _back(torch.empty(sizes, dtype=like.dtype, device=like.device), order)


def _back(lying: Tensor, order: Order) -> Tensor:
    return lying.permute(0, *(order.index(axis) + 1 for axis in range(1, lying.dim())))


def _past_caches(train: Tensor, how: How) -> bool:
    """Returns whether a train is better written to memory at once."""
    size = train[0].numel()
    run = train.shape[2] if how.pooled else size
    return 4 * size * len(train) >= PAST_CACHES and run % WIDTH == 0


def _pieces(steps: int) -> list[tuple[int, int]]:
    """Returns where the pieces of time begin and end of which each is one loop."""
    return [(t, min(t + STEPS, steps)) for t in range(0, steps, STEPS)]


Lines = dict[str, Tensor]


def _units(current: Tensor, how: How) -> tuple[int, int, int]:
    """Returns how many units threads may share, how many a sum takes, and windows in each.

    A unit is an element, or two rows of places where windows are pooled.
    """
    if not how.pooled:
        return current[0].numel(), BLOCK, 0
    _, batch, channels, height, width = current.shape
    return batch * height // 2, max(1, BLOCK // (2 * width * channels)), width // 2


def _run(loop: Loop, trains: Lines, numbers: dict[str, float], sums: Lines, how: How) -> None:
    """Runs a loop over all elements on as many threads as torch has, where there is enough to do.

    The loops hold no lock of Python's; torch's own threads cannot be had from Python.
    """
    lines = {n: (x.data_ptr(), x.stride(0) if len(x) > 1 else 0) for n, x in trains.items()}
    current = trains["x"]
    count, block, across = _units(current, how)
    bytes_of = {n: 4 * x[0].numel() // count for n, x in trains.items()}
    blocks = -(-count // block)
    threads = max(1, min(torch.get_num_threads(), blocks, current.numel() // ALONE))

    def part(low: int, high: int) -> None:
        for begin in range(low, high, block if sums else high - low):
            end = min(begin + block, high) if sums else high
            here = {n: (place + bytes_of[n] * begin, step) for n, (place, step) in lines.items()}
            here |= {n: (x[begin // block].data_ptr(), 0) for n, x in sums.items()}
            if across:
                loop(current.shape[2], here, numbers, across * (end - begin), across)
            else:
                loop(end - begin, here, numbers)

    edges = [min(blocks * i // threads * block, count) for i in range(threads)] + [count]
    first, *others = pairwise(edges)
    waiting = [_pool().submit(part, *edges) for edges in others]
    part(*first)
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
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        tracked = any(ctx.needs_input_grad)
        spikes, after, kept, ctx.seen = _forward(
            current, membrane, theta, tau, how, tracked=tracked
        )
        if tracked:
            learned = (x if isinstance(x, Tensor) else None for x in (theta, tau))
            ctx.save_for_backward(*kept, *learned)  # autograd sees when they are overwritten
            ctx.how, ctx.numbers = how, {"theta": float(theta), "tau": float(tau)}
        return spikes, after

    @staticmethod
    def backward(
        ctx: Any, d_spikes: Tensor | None, d_after: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        given, membrane, starts, slopes, *_ = ctx.saved_tensors
        seen: _Seen | None = ctx.seen
        how, order, steps = ctx.how, _order(given), ctx.how.steps
        current, held = how.held(given), len(given) < steps
        rule: Rule = how.rule
        summed = held or rule.averaged
        needs = ctx.needs_input_grad
        learned = needs[2] or needs[3]
        if d_spikes is None:
            d_spikes = torch.zeros_like(current[:1]).expand(steps, *current.shape[1:])
        d_current = _new(1 if summed else steps, current, order)
        d_start = _new(1, current, order) if needs[1] or starts is not None else None
        count, block, _ = _units(current, how)
        blocks = -(-count // block)
        sums = torch.zeros(2, blocks, WIDTH, dtype=torch.float64)
        over_time = {"x": current, "ds": _like(d_spikes, order), "dx": d_current}
        over_time |= _present(slopes=slopes)
        observing = seen is not None and seen.found is None
        if seen is not None:
            means = seen.found or (_new(steps, current, order), _new(steps, current, order))
            over_time |= {"mean": means[0], "deviation": means[1], **seen.old}
        d_after = None if d_after is None else _like(d_after[None], order)
        for low, high in reversed(_pieces(steps)):
            start = _start(membrane, starts, low, order)
            keeps = d_start is not None and (low > 0 or needs[1])
            what = Pass(
                high - low,
                how.hard,
                start is not None,
                keeps,
                rule if isinstance(rule, ASSG) and seen is not None else None,
                observing,
                "old_mean" in over_time,
                curve=known_curve(rule),
                temporal=rule.temporal,
                through=rule.temporal and not rule.detach_reset,
                held=held,
                summed=summed,
                further=summed and high < steps,
                ended=d_after is not None,
                learned=learned,
                pooled=how.pooled,
                past_caches=_past_caches(over_time["mean" if observing else "dx"], how),
            )
            lines = {n: x[low:high] if len(x) == steps else x for n, x in over_time.items()}
            lines |= _present(start=start, d_start=d_start if keeps else None, d_after=d_after)
            totals = {"d_theta": sums[0], "d_tau": sums[1]} if learned else {}
            _run(backward(what), lines, ctx.numbers, totals, how)
            d_after = d_start
        if seen is not None:
            seen.settle(means)
        if rule.averaged and not held:
            d_current = (d_current / steps).expand(steps, *d_current.shape[1:])
        d_theta, d_tau = sums.sum((1, 2)).float()
        return (
            d_current,
            d_start[0] if d_start is not None and needs[1] else None,
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
    beside: Lines | None = None,
) -> tuple[Tensor, Tensor | None, list[Tensor | None], _Seen | None]:
    """Returns spikes and last membrane; where a gradient is tracked, what it needs besides.

    Where the lines of an adaptive rule's means are there ``beside``, these are written as well.
    """
    rule, order, steps = how.rule, _order(current), how.steps
    given = _dense(current, order)
    x = current = how.held(given)
    fired = current[..., ::2, ::2] if how.pooled else current
    over_time = {"x": x, "s": _new(steps, fired, order)}
    over_time |= beside or {}
    seen: _Seen | None = None
    if tracked and known_curve(rule) is None:
        over_time["u"] = _new(steps, current, order)
    elif tracked and isinstance(rule, ASSG):
        seen = _seeing(given, membrane, {"theta": float(theta), "tau": float(tau)}, how, rule)
    pieces = _pieces(steps)
    starts = _new(len(pieces) - 1, current, order) if tracked and len(pieces) > 1 else None
    after = None if how.pooled and len(pieces) == 1 else _new(1, current, order)
    numbers = {"theta": float(theta), "tau": float(tau)}
    for low, high in pieces:
        start = _start(membrane, starts, low, order)
        start = after if low and start is None else start
        ends = after if starts is None or high == steps else starts[high // STEPS - 1 :][:1]
        what = Pass(
            high - low,
            how.hard,
            start is not None,
            "u" in over_time,
            rule if "mean" in over_time and isinstance(rule, ASSG) else None,
            observing="mean" in over_time,
            remembered="old_mean" in over_time,
            held=len(given) < steps,
            ended=ends is not None,
            pooled=how.pooled,
            past_caches=_past_caches(over_time.get("mean", over_time["s"]), how),
        )
        lines = {n: x[low:high] for n, x in over_time.items()}
        lines |= _present(start=start, after=ends)
        _run(forward(what), lines, numbers, {}, how)
    slopes = None
    if "u" in over_time:
        trace = Trace(current, over_time["u"], over_time["s"], theta, tau)
        slopes = _like(rule.slopes(trace, how.memory), order)
    return (
        over_time["s"],
        None if after is None else after[0],
        [given, membrane, starts, slopes],
        seen,
    )


def _seeing(
    given: Tensor, membrane: Tensor | None, numbers: dict[str, float], how: How, rule: ASSG
) -> _Seen:
    """Returns an adaptive rule's means after this pass, from where the memory takes them."""
    memory, order = how.memory or Memory(), _order(given)
    known = rule.recalled(torch.Size((how.steps, *given.shape[1:])), memory)
    old = [] if known is None else [_like(of, order) for of in known]
    before = dict(zip(("old_mean", "old_deviation"), old, strict=False))
    start = None if membrane is None else membrane.detach()

    def find() -> Means:
        if [of._version for of in (current, *begun)] != versions:
            raise Refusal(
                "the currents of a layer were overwritten before its adaptive rule looked at them; "
                "what a gradient will need stays as it is; write into a copy"
            )
        mean, deviation = (_new(how.steps, how.held(current), order) for _ in range(2))
        beside = {"mean": mean, "deviation": deviation, **before}
        _forward(current, start, **numbers, how=how, tracked=False, beside=beside)
        return mean, deviation

    current, begun = given.detach(), [] if start is None else [start]
    versions = [of._version for of in (current, *begun)]
    seen = _Seen(before, find)
    if not memory.frozen:
        memory.later(seen)
    elif known is not None:
        seen.settle((old[0], old[1]))
    return seen


def _start(membrane: Tensor | None, starts: Tensor | None, low: int, order: Order) -> Tensor | None:
    """Returns the membrane with which a piece of time begins, as a train of one step."""
    if low:
        return None if starts is None else starts[low // STEPS - 1 :][:1]
    return None if membrane is None else _like(membrane[None], order)


def _present(**lines: Tensor | None) -> Lines:
    return {name: line for name, line in lines.items() if line is not None}
