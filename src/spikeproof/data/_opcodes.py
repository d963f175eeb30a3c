"""Reads the plain content of a pickle without unpickling: nothing it names is looked up or called.

Only the opcodes that dicts, lists, text, numbers and numpy arrays are made of are understood, and
the few globals that arrays need are compared as text. An opcode is refused before its argument is
read.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikeproof.data._files import read_whole
from spikeproof.errors import Refusal

OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
Raw = str | bytes | bytearray  # Python 2 had one type for text and bytes
REMEDY = "only dicts, lists, text, numbers and arrays are read; take the published file"


def read_plain(path: Path) -> dict[str, object]:
    """Returns the dict that a pickle file describes; its keys as text."""
    return _Machine(path, read_whole(path)).run()


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(eq=False)
class _DType:
    code: str
    order: str = "|"

    def resolve(self) -> np.dtype:
        return np.dtype(self.order.replace("|", "=") + self.code)


@dataclass(eq=False)
class _Array:
    """Stays the same object while it is filled, for the memo may already point at it."""

    value: np.ndarray | None = None


def _argument(opcode: pickletools.OpcodeInfo, file: io.BytesIO) -> Any:
    if opcode.name == "GLOBAL":  # the reader of pickletools would unescape the name
        lines = file.readline(), file.readline()
        if not lines[1].endswith(b"\n"):
            raise ValueError("a name ends with its line")
        return ".".join(line[:-1].decode("ascii") for line in lines)
    return opcode.arg.reader(file) if opcode.arg else None


class _Machine:
    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.file = io.BytesIO(data)
        self.left = len(data)  # bytes that may still be copied: a memo could ask for many copies
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> dict[str, object]:
        while (code := self.file.read(1)) != b".":
            opcode = OPCODES.get(code)
            act = _ACTS.get(opcode.name) if opcode else None
            if opcode is None or act is None:
                name = opcode.name if opcode else code.hex() or "its end without a STOP"
                raise self.refusal(f"comes to {name} at byte {self.file.tell()}")
            try:
                argument = _argument(opcode, self.file)
            except ValueError as error:
                raise self.refusal(f"breaks off within {opcode.name}: {error}") from None
            act(self, _CONSTANTS.get(opcode.name, argument))
        if self.file.read(1) or self.marks or len(self.stack) != 1:
            raise self.refusal("goes on after its end")
        return self.content()

    def content(self) -> dict[str, object]:
        (found,) = self.stack
        if not isinstance(found, dict):
            raise self.refusal(f"holds a {type(found).__name__.strip('_')} and no dict")
        plain: dict[str, object] = {}
        for key, value in found.items():
            name = key.decode("latin-1") if isinstance(key, bytes) else key
            if not isinstance(name, str) or name in plain:
                raise self.refusal(f"has the key {ascii(key)[:40]}, twice or not as text")
            plain[name] = value.value if isinstance(value, _Array) else value
        return plain

    def refusal(self, what: str) -> Refusal:
        return Refusal(f"{self.path} {what}; {REMEDY}")

    def pop(self) -> Any:
        if not self.stack:
            raise self.refusal("takes from an empty stack")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise self.refusal("closes a list that it did not open")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: object) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pack(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        target = self.pop()
        if not isinstance(target, list):
            raise self.refusal(f"appends to a {type(target).__name__.strip('_')}")
        target.extend(items)
        self.push(target)

    def update(self, items: list[Any]) -> None:
        target = self.pop()
        keys = items[::2]
        if not isinstance(target, dict) or len(items) % 2:
            raise self.refusal(f"sets {len(items)} items of a {type(target).__name__.strip('_')}")
        if any(type(key) not in (str, bytes, int) for key in keys):  # nested ones hash recursively
            raise self.refusal("has a key that is neither text nor a number")
        target.update(zip(keys, items[1::2], strict=True))
        self.push(target)

    def store(self, place: int) -> None:
        if not self.stack:
            raise self.refusal("remembers the top of an empty stack")
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise self.refusal(f"recalls item {place}, which it never stored")
        self.push(self.memo[place])

    def name(self, name: str) -> None:
        if name not in _CALLS and name not in _WORDS:
            raise self.refusal(f"asks for {ascii(name)[1:80].rstrip(chr(39))}")
        self.push(_Global(name))

    def stack_name(self, _: object) -> None:
        name, room = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(room, str)):
            raise self.refusal("asks for a name that is no text")
        self.name(f"{room}.{name}")

    def reduce(self, _: object) -> None:
        arguments, function = self.pop(), self.pop()
        call = _CALLS.get(function.name) if isinstance(function, _Global) else None
        if call is None or not isinstance(arguments, tuple):
            raise self.refusal(f"calls a {type(function).__name__.strip('_')}")
        self.push(call(self, *self.fit(arguments, call)))

    def fit(self, arguments: tuple[Any, ...], call: Callable[..., Any]) -> tuple[Any, ...]:
        kinds = _ARGUMENTS[call]
        if len(arguments) != len(kinds) or not all(map(isinstance, arguments, kinds)):
            raise self.refusal(f"fills {call.__name__} with {len(arguments)} wrong arguments")
        return arguments

    def build(self, _: object) -> None:
        state, target = self.pop(), self.pop()
        if not isinstance(state, tuple):
            raise self.refusal("fills an object with something else than a tuple")
        if isinstance(target, _DType):
            if len(state) != 8 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
                raise self.refusal("describes a type that is not a plain number")
            target.order = state[1]
        elif isinstance(target, _Array) and target.value is None:
            _, shape, dtype, fortran, raw = self.fit(state, _Machine.array)
            target.value = self.array(1, shape, dtype, fortran, raw).value
        else:
            raise self.refusal(f"fills a {type(target).__name__.strip('_')}")
        self.push(target)

    def array(
        self, _: int, shape: tuple[Any, ...], dtype: _DType, fortran: int, raw: Raw
    ) -> _Array:
        data, kind = self.raw(raw), dtype.resolve()
        if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 32:
            raise self.refusal("shapes an array by something else than a few numbers")
        if math.prod(shape) * kind.itemsize != len(data):
            raise self.refusal(f"shapes {len(data)} bytes as {shape} of {kind}")
        return _Array(np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C"))

    def raw(self, data: Raw) -> bytes | bytearray:
        if not isinstance(data, str):
            return data
        self.left -= len(data)
        if self.left < 0:
            raise self.refusal("copies more text than it holds")
        try:
            return data.encode("latin-1")
        except UnicodeEncodeError:
            raise self.refusal("stores bytes as text that is not latin-1") from None

    def blank(self, kind: _Global, _shape: tuple[Any, ...], _code: str | bytes) -> _Array:
        if kind.name != "numpy.ndarray":
            raise self.refusal(f"makes an array of {kind.name}")
        return _Array()

    def dtype(self, code: str, _align: int, _copy: int) -> _DType:
        if not re.fullmatch("b1|[iu][1248]|f[248]", code, re.ASCII):
            raise self.refusal(f"has an array of type {ascii(code)[:40]}")
        return _DType(code)

    def scalar(self, dtype: _DType, raw: Raw) -> object:
        value = self.array(1, (), dtype, 0, raw).value
        return None if value is None else value.item()

    def buffer(self, raw: bytearray, dtype: _DType, shape: tuple[Any, ...], order: str) -> _Array:
        return self.array(1, shape, dtype, order == "F", raw)

    def encode(self, text: str, code: str) -> bytes:
        if code not in ("latin1", "latin-1"):
            raise self.refusal(f"encodes text as {ascii(code)[:40]}")
        return bytes(self.raw(text))


_CALLS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _Machine.encode,
    "numpy.dtype": _Machine.dtype,
    "numpy.core.multiarray._reconstruct": _Machine.blank,
    "numpy.core.multiarray.scalar": _Machine.scalar,
    "numpy.core.numeric._frombuffer": _Machine.buffer,
    "numpy._core.multiarray._reconstruct": _Machine.blank,  # numpy 2
    "numpy._core.multiarray.scalar": _Machine.scalar,
    "numpy._core.numeric._frombuffer": _Machine.buffer,
}
_WORDS = {"numpy.ndarray"}
_ARGUMENTS: dict[Callable[..., Any], tuple[Any, ...]] = {
    _Machine.array: (int, tuple, _DType, int, (str, bytes)),
    _Machine.encode: (str, str),
    _Machine.dtype: (str, int, int),
    _Machine.blank: (_Global, tuple, (str, bytes)),
    _Machine.scalar: (_DType, (str, bytes)),
    _Machine.buffer: (bytearray, _DType, tuple, str),
}

_Act = Callable[[_Machine, Any], None]
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TEXTS = ("SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ACTS: dict[str, _Act] = {
    "PROTO": lambda _machine, _: None,
    "FRAME": lambda _machine, _: None,
    **dict.fromkeys((*_NUMBERS, *_TEXTS, *_BYTES, *_CONSTANTS), _Machine.push),
    "MARK": _Machine.mark,
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "TUPLE1": lambda machine, _: machine.pack(1),
    "TUPLE2": lambda machine, _: machine.pack(2),
    "TUPLE3": lambda machine, _: machine.pack(3),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.update([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.update(machine.pop_mark()),
    "BINPUT": _Machine.store,
    "LONG_BINPUT": _Machine.store,
    "MEMOIZE": lambda machine, _: machine.store(len(machine.memo)),
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
