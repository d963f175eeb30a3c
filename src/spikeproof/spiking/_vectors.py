"""Loops over lines of float32, written in Python and compiled by LLVM when they are first needed.

A loop's body is a function of a ``Lane``: Python runs it once, and what it does with values
becomes the code of one iteration over ``WIDTH`` elements, and once more of one element, for what
is left at the end. Python's own loops, branches and lists are gone by then, so that what a list
holds is in registers. No operation is contracted or reordered: arithmetic is IEEE's.

A loop may run over windows, one after the other: what a window makes lies at its ``length``
elements, and what it is made of in its corners, 2x2 runs of as many. Rows of places lie densely
with the elements of a place together, as maps do that have their channels last.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

WIDTH = 16  # one register of AVX-512, two of AVX2, four of Neon
ALIGNED = 4 * WIDTH  # bytes, which a store past the caches asks for

Body = Callable[["Lane"], None]
Line = tuple[int, int]  # the address of a train's first number, and numbers from step to step
_F32, _F64, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_PLACE = ir.PointerType()


@dataclass(frozen=True)
class Value:
    """Some elements' numbers, or what one comparison says of them."""

    lane: Lane
    code: Any

    def _with(self, operation: str, a: Value | float, b: Value | float) -> Value:
        x, y = self.lane.splat(a), self.lane.splat(b)
        return Value(self.lane, getattr(self.lane.build, operation)(x.code, y.code))

    def __add__(self, other: Value | float) -> Value:
        return self._with("fadd", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self._with("fsub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self._with("fmul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._with("fdiv", self, other)

    def __rtruediv__(self, other: float) -> Value:
        return self._with("fdiv", other, self)

    def __radd__(self, other: float) -> Value:
        return self._with("fadd", other, self)

    def __rsub__(self, other: float) -> Value:
        return self._with("fsub", other, self)

    def __rmul__(self, other: float) -> Value:
        return self._with("fmul", other, self)

    def __abs__(self) -> Value:
        return self.lane.intrinsic("fabs", self)

    def compare(self, how: str, other: Value | float) -> Value:
        """Returns a comparison, which is false where either is not a number."""
        y = self.lane.splat(other)
        return Value(self.lane, self.lane.build.fcmp_ordered(how, self.code, y.code))

    def chosen(self, yes: Value | float, no: Value | float) -> Value:
        """Returns ``yes`` where this comparison holds, else ``no``."""
        x, y = self.lane.splat(yes), self.lane.splat(no)
        return Value(self.lane, self.lane.build.select(self.code, x.code, y.code))

    def exp(self) -> Value:
        """Returns the exponential of what is not positive, right to some last places."""
        lane, build = self.lane, self.lane.build
        z = self.compare(">", -104.0).chosen(self, -104.0)
        n = lane.intrinsic("floor", z * math.log2(math.e) + 0.5)
        r = z - n * 0.693359375 - n * -2.12194440e-4
        y: Value | float = 1.9875691500e-4
        for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
            y = y * r + c
        y = y * (r * r) + r + 1.0
        whole = build.fptosi(n.code, lane.shaped(_I32))
        half = build.ashr(whole, lane.constant(_I32, 1))
        for power in (half, build.sub(whole, half)):  # two factors reach the least numbers
            bits = build.shl(build.add(power, lane.constant(_I32, 127)), lane.constant(_I32, 23))
            y = y * Value(lane, build.bitcast(bits, lane.shaped(_F32)))
        y = self.compare(">", -104.0).chosen(y, 0.0)
        return Value(lane, build.fcmp_unordered("uno", self.code, self.code)).chosen(self, y)


class Lane:
    """``width`` neighbours in one iteration of a loop: what a body reads, computes and writes.

    A train has a line of numbers for every step; a total has ``WIDTH`` parts in float64. The
    ``corners`` are the same elements at the places of their window.
    """

    def __init__(self, code: _Code, width: int, at: Any, corners: tuple[Lane, ...] = ()) -> None:
        self.code, self.width, self.at, self.build = code, width, at, code.build
        self.corners = corners

    def number(self, name: str) -> Value:
        """Returns a number of the call."""
        return self._spread(self.code.number(name))

    def load(self, train: str, step: int = 0) -> Value:
        """Returns a train's numbers at a step."""
        return self._loaded(_F32, self.code.line(train, step), self.at)

    def store(self, train: str, step: int, value: Value) -> None:
        """Writes a train's numbers at a step."""
        place = self.build.gep(self.code.line(train, step), [self.at], source_etype=_F32)
        past = self.code.past_caches and self.width > 1
        store = self.build.store(value.code, place, align=ALIGNED if past else 4)
        if past:
            once = self.code.module.add_metadata([_I32(1)])
            store.set_metadata("nontemporal", once)

    def add(self, total: str, value: Value) -> None:
        """Adds to a total, every lane to its own part."""
        line = self.code.line(total, 0)
        before = self._loaded(_F64, line, _I64(0)).code
        after = self.build.fadd(before, self.build.fpext(value.code, self.shaped(_F64)))
        self.build.store(after, line, align=8)

    def shaped(self, kind: Any) -> Any:
        """Returns the type of these elements."""
        return kind if self.width == 1 else ir.VectorType(kind, self.width)

    def constant(self, kind: Any, number: float) -> Any:
        """Returns a number for every element."""
        every = number if self.width == 1 else [number] * self.width
        return ir.Constant(self.shaped(kind), every)

    def splat(self, number: Value | float) -> Value:
        """Returns a constant, rounded to float32 first."""
        if isinstance(number, Value):
            return number
        return Value(self, self.constant(_F32, float(np.float32(number))))

    def intrinsic(self, name: str, x: Value) -> Value:
        """Returns what a function of LLVM's makes of a value."""
        kind = self.shaped(_F32)
        full = f"llvm.{name}.{'f32' if self.width == 1 else f'v{self.width}f32'}"
        function = self.code.module.globals.get(full)
        if function is None:
            function = ir.Function(self.code.module, ir.FunctionType(kind, [kind]), full)
        return Value(self, self.build.call(function, [x.code]))

    def _loaded(self, kind: Any, line: Any, at: Any) -> Value:
        place = self.build.gep(line, [at], source_etype=kind)
        align = 4 if kind is _F32 else 8
        return Value(self, self.build.load(place, align=align, typ=self.shaped(kind)))

    def _spread(self, scalar: Any) -> Value:
        if self.width == 1:
            return Value(self, scalar)
        nothing = ir.Constant(self.shaped(_F32), ir.Undefined)
        one = self.build.insert_element(nothing, scalar, _I32(0))
        every = ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width)
        return Value(self, self.build.shuffle_vector(one, one, every))


class _Code:
    """The function around a body: the lanes, and what is left."""

    def __init__(self, body: Body, *, past_caches: bool) -> None:
        self.past_caches = past_caches
        self.lines: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.module = ir.Module()
        kind = ir.FunctionType(ir.VoidType(), [*[_I64] * 3, *[_PLACE] * 3])
        self.function = ir.Function(self.module, kind, "loop")
        length, windows, across, *self.given = self.function.args
        blocks = ("entry", "window", "lanes", "lane", "rest", "one", "next", "end")
        block = {name: self.function.append_basic_block(name) for name in blocks}
        self.entry = ir.IRBuilder(block["entry"])
        self.known: dict[tuple[str, int], Any] = {}
        build = self.build = ir.IRBuilder(block["window"])

        window = build.phi(_I64)
        window.add_incoming(_I64(0), block["entry"])
        made, places = build.mul(window, length), self._corners(window, length, across)
        build.branch(block["lanes"])
        start: Any = _I64(0)
        ways = ((WIDTH, "window", "lanes", "lane", "rest"), (1, "lanes", "rest", "one", "next"))
        for width, before, head, inside, after in ways:
            build.position_at_end(block[head])
            at = build.phi(_I64)
            at.add_incoming(start, block[before])
            stop = build.add(at, _I64(width))
            fits = build.icmp_signed("<=", stop, length)
            build.cbranch(fits, block[inside], block[after])
            build.position_at_end(block[inside])
            corners = tuple(Lane(self, width, build.add(place, at)) for place in places)
            body(Lane(self, width, build.add(made, at), corners))
            at.add_incoming(stop, block[inside])
            build.branch(block[head])
            start = at
        build.position_at_end(block["next"])
        done = build.add(window, _I64(1))
        window.add_incoming(done, block["next"])
        more = build.icmp_signed("<", done, windows)
        build.cbranch(more, block["window"], block["end"])
        build.position_at_end(block["end"])
        if past_caches:
            build.fence("seq_cst")
        build.ret_void()
        self.entry.branch(block["window"])

    def _corners(self, window: Any, length: Any, across: Any) -> tuple[Any, ...]:
        """Returns where the places of a window begin."""
        build = self.build
        above = build.mul(build.sdiv(window, across), across)  # windows in the rows above
        left = build.shl(build.mul(build.add(window, above), length), _I64(1))
        below = build.add(left, build.shl(build.mul(across, length), _I64(1)))
        return left, build.add(left, length), below, build.add(below, length)

    def line(self, name: str, step: int) -> Any:
        """Returns where a step of a train begins, found before the loops."""
        if (name, step) not in self.known:
            index = _I64(self.lines.setdefault(name, len(self.lines)))
            base, stride = (
                self.entry.load(self.entry.gep(table, [index], source_etype=kind), typ=kind)
                for table, kind in zip(self.given, (_PLACE, _I64), strict=False)
            )
            offset = self.entry.mul(stride, _I64(step))
            self.known[name, step] = self.entry.gep(base, [offset], source_etype=_F32)
        return self.known[name, step]

    def number(self, name: str) -> Any:
        """Returns a number of the call, read before the loops."""
        index = _I64(self.numbers.setdefault(name, len(self.numbers)))
        return self.entry.load(self.entry.gep(self.given[2], [index], source_etype=_F32), typ=_F32)


@dataclass(frozen=True, eq=False)
class Loop:
    """A compiled loop; calls of it hold no lock of Python's."""

    engine: Any  # owns the code
    run: Any
    lines: tuple[str, ...]
    numbers: tuple[str, ...]

    def __call__(
        self,
        length: int,
        lines: Mapping[str, Line],
        numbers: Mapping[str, float],
        windows: int = 1,
        across: int = 1,
    ) -> None:
        """Runs over the first ``length`` elements of every line, or of so many windows.

        A row has ``across`` windows.
        """
        places, strides = zip(*(lines[name] for name in self.lines), strict=True)
        count = len(places)
        self.run(
            length,
            windows,
            across,
            (ctypes.c_void_p * count)(*places),
            (ctypes.c_int64 * count)(*strides),
            (ctypes.c_float * len(self.numbers))(*(numbers[name] for name in self.numbers)),
        )


def compiled(body: Body, *, past_caches: bool = False) -> Loop:
    """Returns the loop of a body.

    Args:
        body: what is done with every element.
        past_caches: store to memory at once; lines then lie at multiples of ``ALIGNED`` bytes.
    """
    code = _Code(body, past_caches=past_caches)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(code.module)), _machine())
    engine.finalize_object()
    kinds = (*[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 3)
    run = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("loop"))
    return Loop(engine, run, tuple(code.lines), tuple(code.numbers))


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
    )
