"""Frozen dataclasses as JSON and back; rows of numbers are packed, so that no bit is lost."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

T = TypeVar("T")

SHORT = 8  # numbers; fewer are written out
DTYPES = {"f8": "<f8", "u4": "<u4"}


def packed(value: Any) -> Any:
    """Returns plain values in which long rows of one kind of number are base64.

    ``f8`` are float64 and ``u4`` uint32, both little-endian; ``bits`` are booleans, most
    significant first, ``count`` of them.
    """
    if isinstance(value, Mapping):
        return {name: packed(item) for name, item in value.items()}
    if not isinstance(value, tuple | list):
        return value
    kinds = {type(item) for item in value}
    finite = kinds != {float} or bool(np.isfinite(value).all())
    if len(kinds) != 1 or (len(value) < SHORT and finite):
        return [packed(item) for item in value]
    if kinds == {bool}:
        return {"bits": _text(np.packbits(np.asarray(value))), "count": len(value)}
    if kinds == {float}:
        return {"f8": _text(np.asarray(value, DTYPES["f8"]))}
    if kinds == {int} and min(value) >= 0 and max(value) < 2**32:
        return {"u4": _text(np.asarray(value, DTYPES["u4"]))}
    return [packed(item) for item in value]


def unpacked(kind: type[T] | Any, value: Any) -> T:
    """Returns the object of this type that ``packed`` was given, or raises ``ValueError``."""
    return TypeAdapter(kind).validate_python(_rows(value))


def _rows(value: Any) -> Any:
    match value:
        case {"bits": str(text), "count": int(count)}:
            bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
            if not 0 <= count <= len(bits) < count + 8:
                raise ValueError(f"{len(bits)} bits for {count} booleans")
            return tuple(bool(bit) for bit in bits[:count])
        case {"f8": str(text)} | {"u4": str(text)}:
            (kind,) = value
            return tuple(np.frombuffer(base64.b64decode(text), DTYPES[kind]).tolist())
        case dict():
            return {name: _rows(item) for name, item in value.items()}
        case list():
            return tuple(_rows(item) for item in value)
    return value


def _text(values: Any) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
