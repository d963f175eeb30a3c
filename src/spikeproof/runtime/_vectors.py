"""Loops written for vector registers, as instructions that Numba inlines.

What a loop sums stays in registers over all weights of a row. Products are fused with their sums
in both executions, so that they round alike. Importing this module imports Numba.
"""
# ruff: noqa: PLR0913  an instruction takes all that it needs by its place

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LANES = 8
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FUSED = ("contract",)
Compiled = tuple[Any, Callable[..., Any]]


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _number(value: int) -> Any:
    return ir.Constant(I64, value)


def _load(builder: Any, start: Any, place: Any, lanes: int = LANES) -> Any:
    kind = ir.VectorType(F32, lanes).as_pointer()
    value = builder.load(builder.bitcast(builder.gep(start, [place]), kind))
    value.align = 4
    return value


def _store(builder: Any, value: Any, start: Any, place: Any) -> None:
    kind = value.type.as_pointer()
    builder.store(value, builder.bitcast(builder.gep(start, [place]), kind)).align = 4


def _spread(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """A vector that holds one number in all its lanes."""
    nothing = ir.Constant(ir.VectorType(F32, lanes), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, nothing, zeros)


def _fused(builder: Any, total: Any, left: Any, right: Any) -> Any:
    return builder.fadd(total, builder.fmul(left, right, flags=FUSED), flags=FUSED)


def _each_weight(builder: Any, begin: Any, end: Any, carried: Sequence[Any]) -> Any:
    """Opens a loop over ``begin..end`` that carries vectors; returns what its body needs."""
    start = builder.block
    head, body, done = (builder.append_basic_block(n) for n in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    k.add_incoming(begin, start)
    held = []
    for value in carried:
        phi = builder.phi(value.type)
        phi.add_incoming(value, start)
        held.append(phi)
    builder.cbranch(builder.icmp_signed("<", k, end), body, done)
    builder.position_at_end(body)

    def close(new: Sequence[Any]) -> None:
        following = builder.add(k, _number(1))
        k.add_incoming(following, builder.block)
        for phi, value in zip(held, new, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(done)

    return k, held, close


@intrinsic
def add_runs(
    _: Any, out: Any, at: Any, bias: Any, x: Any, base: Any, offsets: Any, w: Any, begin: Any,
    end: Any, n: Any,
) -> Compiled | None:  # fmt: skip
    """``out[at + j] = bias + sum_k w[k] x[base + offsets[k] + j]`` for ``8 n`` places ``j``."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    count = n.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        data = [_data(context, builder, kinds[i], args[i]) for i in (0, 3, 5, 6)]
        target, source, places, values = data
        source = builder.gep(source, [args[4]])
        lanes = [_number(v * LANES) for v in range(count)]
        spots = [builder.add(args[1], lane) for lane in lanes]
        first = [_spread(builder, args[2])] * count
        k, totals, close = _each_weight(builder, args[7], args[8], first)
        offset = builder.sext(builder.load(builder.gep(places, [k])), I64)
        weight = _spread(builder, builder.load(builder.gep(values, [k])))
        run = builder.gep(source, [offset])
        close([
            _fused(builder, total, _load(builder, run, lane), weight)
            for total, lane in zip(totals, lanes, strict=True)
        ])  # fmt: skip
        for total, spot in zip(totals, spots, strict=True):
            _store(builder, total, target, spot)
        return context.get_dummy_value()

    return types.void(out, at, bias, x, base, offsets, w, begin, end, n), generate


@intrinsic
def scatter(
    _: Any, out: Any, at: Any, offsets: Any, w: Any, begin: Any, end: Any, x: Any, place: Any,
    n: Any,
) -> Compiled | None:  # fmt: skip
    """``out[at + offsets[k] + j] += w[k] x[place + j]`` for every ``k`` and ``n`` lanes ``j``."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    lanes = n.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        data = [_data(context, builder, kinds[i], args[i]) for i in (0, 2, 3, 6)]
        target, places, values, source = data
        event = _load(builder, source, args[7], lanes)
        k, _held, close = _each_weight(builder, args[4], args[5], [])
        offset = builder.sext(builder.load(builder.gep(places, [k])), I64)
        weight = _spread(builder, builder.load(builder.gep(values, [k])), lanes)
        spot = builder.add(args[1], offset)
        before = _load(builder, target, spot, lanes)
        _store(builder, _fused(builder, before, event, weight), target, spot)
        close([])
        return context.get_dummy_value()

    return types.void(out, at, offsets, w, begin, end, x, place, n), generate


@intrinsic
def any_of(_: Any, x: Any, at: Any, n: Any) -> Compiled | None:
    """Whether any of ``n`` lanes is not zero."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    lanes = n.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _load(builder, _data(context, builder, signature.args[0], args[0]), args[1], lanes)
        whole = ir.IntType(32 * lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(value, whole), ir.Constant(whole, 0))

    return types.boolean(x, at, n), generate


@intrinsic
def merge(_: Any, x: Any, to: Any, at: Any, largest: Any, n: Any) -> Compiled | None:
    """``x[to + j]`` becomes the larger of itself and ``x[at + j]``, or else their sum."""
    if not isinstance(n, types.IntegerLiteral) or not isinstance(largest, types.IntegerLiteral):
        return None
    lanes, takes_largest = n.literal_value, bool(largest.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _data(context, builder, signature.args[0], args[0])
        before, value = (_load(builder, data, place, lanes) for place in args[1:3])
        if takes_largest:
            larger = builder.fcmp_ordered(">", value, before)
            joined = builder.select(larger, value, before)
        else:
            joined = builder.fadd(before, value)
        _store(builder, joined, data, args[1])
        return context.get_dummy_value()

    return types.void(x, to, at, largest, n), generate


@intrinsic
def fire8(
    _: Any, x: Any, at: Any, stride: Any, state: Any, place: Any, out: Any, to: Any,
    theta: Any, tau: Any, hard: Any, held: Any,
) -> Compiled | None:  # fmt: skip
    """Eight neurons through eight steps; place and time change axes on the way in and out.

    ``stride`` is the distance of two neurons in ``x`` and ``out``; a ``held`` current has one step.
    Returns how many of the neurons fired.
    """
    if not isinstance(hard, types.IntegerLiteral) or not isinstance(held, types.IntegerLiteral):
        return None
    resets_to_zero, is_held = bool(hard.literal_value), bool(held.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        current, membrane, spikes = (_data(context, builder, kinds[i], args[i]) for i in (0, 3, 5))
        rows = [builder.mul(args[2], _number(p)) for p in range(LANES)]
        if is_held:
            steps = [_load(builder, current, args[1])] * LANES
        else:
            loaded = [_load(builder, current, builder.add(args[1], row)) for row in rows]
            steps = _transposed(builder, loaded)
        threshold, leak = _spread(builder, args[7]), _spread(builder, args[8])
        zero = ir.Constant(threshold.type, [0.0] * LANES)
        one = ir.Constant(threshold.type, [1.0] * LANES)
        u, fired, ever = _load(builder, membrane, args[4]), [], None
        for step in steps:
            u = builder.fadd(builder.fmul(leak, u), step)
            spike = builder.fcmp_ordered(">=", builder.fsub(u, threshold), zero)
            fired.append(builder.select(spike, one, zero))
            ever = spike if ever is None else builder.or_(ever, spike)
            lower = zero if resets_to_zero else builder.fsub(u, threshold)
            u = builder.select(spike, lower, u)
        _store(builder, u, membrane, args[4])
        for row, value in zip(rows, _transposed(builder, fired), strict=True):
            _store(builder, value, spikes, builder.add(args[6], row))
        mask = builder.bitcast(ever, ir.IntType(LANES))
        return builder.ctpop(builder.zext(mask, I64))

    return types.int64(x, at, stride, state, place, out, to, theta, tau, hard, held), generate


def _transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """An eight by eight block with its axes exchanged, in the three rounds that processors have."""

    def both(left: Any, right: Any, low: list[int], high: list[int]) -> list[Any]:
        masks = (ir.Constant(ir.VectorType(I32, LANES), mask) for mask in (low, high))
        return [builder.shuffle_vector(left, right, mask) for mask in masks]

    ones, pairs, halves = [], [], []
    for i in (0, 2, 4, 6):
        ones += both(rows[i], rows[i + 1], [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15])
    for i in (0, 1, 4, 5):
        pairs += both(
            ones[i], ones[i + 2], [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        )
    for i in range(4):
        low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        halves.append(both(pairs[i], pairs[i + 4], low, high))
    return [low for low, _ in halves] + [high for _, high in halves]
