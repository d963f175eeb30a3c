"""Packed networks on disk: a header of plain JSON, then blocks of bytes, each with its checksum.

A magic word, the version, the header's length and its CRC-32 come first, all sizes are
checked against the file before anything is allocated, and nothing in it is executed.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args

import numpy as np

from spikeproof.errors import Refusal, short
from spikeproof.ir._gaps import decode, encode
from spikeproof.ir._graph import MOST_NODES, Graph
from spikeproof.ir._nodes import MOST_WEIGHTS, NODES, Code, Conv, How, Linear, Node, Weights
from spikeproof.records import replace_file

MAGIC = b"SPKP\r\n\x1a\n"
VERSION = 1
START = struct.Struct("<8sIII")  # magic, version, bytes and CRC-32 of the header
MOST_HEADER = 1 << 24
MOST_FILE = 1 << 33
HALF = 65520.0  # what fp16 rounds to infinity
TYPES: dict[str, str] = {"fp32": "<f4", "fp16": "<f2", "int8": "|i1"}
SUFFIX = ".spkp"
T = TypeVar("T")


@dataclass(frozen=True)
class Storage:
    """Where the bytes of a packed file are, beside those of the dense network in fp32."""

    values: int  # of the kept weights, with the scales of int8
    places: int  # of the kept weights
    arrays: int  # biases, norms that could not be folded, noise
    header: int  # structure, thresholds, leaks, checksums
    dense: int  # four bytes for every parameter of the network before pruning
    error: float  # largest change of a weight by rounding, in units of the largest of its tensor

    @property
    def total(self) -> int:
        """The bytes on disk."""
        return self.values + self.places + self.arrays + self.header

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the dense network."""
        return self.dense / self.total


def pack(path: Path, graph: Graph, precision: str = "fp32") -> Storage:
    """Writes a network and returns what its parts take; equal graphs give equal bytes."""
    if precision not in TYPES:
        raise Refusal(f"precision is {short(precision)}; choose one of {', '.join(TYPES)}")
    blocks: list[bytes] = []
    counts = {"values": 0, "places": 0, "arrays": 0}
    error = 0.0
    rows: list[dict[str, Any]] = []
    for node in graph.nodes:
        row: dict[str, Any] = {"kind": node.kind}
        for field in fields(node):
            value = getattr(node, field.name)
            if isinstance(value, Weights):
                row[field.name], parts, lost = _weights(value, precision)
                error = max(error, lost)
                counts["places"] += len(parts[0]) + len(parts[1])
                counts["values"] += len(parts[2]) + len(parts[3])
                blocks += parts
            elif isinstance(value, np.ndarray):
                row[field.name] = {"shape": list(value.shape)}
                blocks.append(np.ascontiguousarray(value, "<f4").tobytes())
                counts["arrays"] += len(blocks[-1])
            else:
                row[field.name] = _written(value, str(field.type))
        rows.append(row)
    header = {
        "nodes": rows,
        "parameters": graph.parameters,
        "values": precision,
        "blocks": [[len(block), zlib.crc32(block)] for block in blocks],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    start = START.pack(MAGIC, VERSION, len(text), zlib.crc32(text))

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.writelines([start, text, *blocks])

    replace_file(path, write)
    return Storage(
        **counts, header=len(start) + len(text), dense=4 * dense_parameters(graph), error=error
    )


def dense_parameters(graph: Graph) -> int:
    """Returns the parameters of the dense network: as they were counted, or of these shapes."""
    return graph.parameters or graph.size + sum(
        len(node.bias) for node in graph.nodes if isinstance(node, Conv | Linear)
    )


def unpack(path: Path) -> Graph:
    """Returns the network of a packed file; whatever is wrong with it costs one sentence."""
    return _opened(path, _graph)


def node_bytes(path: Path) -> tuple[int, ...]:
    """Returns what the arrays of every node take in a packed file; all else is its header."""
    return _opened(path, lambda header, blocks: blocks.taken(header["nodes"]))


def _opened(path: Path, read: Callable[[dict[str, Any], _Blocks], T]) -> T:
    if not path.is_file():
        raise Refusal(f"{path} is no file; a packed network is one; export a model to it")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header = _header(file, size)
            return read(header, _Blocks(file, header["blocks"], TYPES[header["values"]]))
    except (Refusal, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        known = isinstance(error, Refusal)
        what = str(error).split("; ")[0] if known else "its header is not as it was written"
        raise Refusal(
            f"{path}: {what}; a packed network must be unchanged; export it again"
        ) from None


def _weights(weights: Weights, precision: str) -> tuple[dict[str, Any], list[bytes], float]:
    k, unary, low = encode(weights.positions, weights.size)
    scales = np.zeros(0, np.float32)
    values = weights.values
    largest = float(np.abs(values).max()) if len(values) else 0.0
    if precision == "int8":
        row = _rows(weights.positions, weights.shape)
        scales = np.zeros(weights.shape[0], np.float32)
        np.maximum.at(scales, row, np.abs(values))
        scales /= np.float32(127)
        with np.errstate(invalid="ignore", divide="ignore"):
            steps = np.where(scales[row] > 0, values / scales[row], 0)
        stored = np.rint(steps).clip(-127, 127).astype("|i1")
    else:
        if precision == "fp16" and largest >= HALF:
            raise Refusal(f"a weight is {largest:g}; fp16 ends at 65504; take precision fp32")
        stored = values.astype(TYPES[precision])
    back = _restored(stored, scales, weights.positions, weights.shape)
    lost = float(np.abs(back - values).max()) / largest if largest else 0.0
    row_of = {"shape": list(weights.shape), "kept": weights.kept, "k": k}
    return row_of, [unary, low, stored.tobytes(), scales.astype("<f4").tobytes()], lost


def _rows(positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return positions // np.uint32(max(1, math.prod(shape[1:])))


def _restored(
    stored: np.ndarray, scales: np.ndarray, positions: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    values = stored.astype(np.float32)
    return values * scales[_rows(positions, shape)] if len(scales) else values


def _header(file: BinaryIO, size: int) -> dict[str, Any]:
    start = file.read(START.size)
    if len(start) < START.size or start[:8] != MAGIC:
        raise Refusal(
            f"it starts with {start[:8].hex() or 'nothing'} and not as packed networks do"
        )
    _, version, length, crc = START.unpack(start)
    if version != VERSION:
        raise Refusal(f"it is of version {version} and this program reads {VERSION}")
    if length > min(MOST_HEADER, size - START.size) or size > MOST_FILE:
        raise Refusal(f"its header promises {length} bytes in a file of {size}")
    text = file.read(length)
    if len(text) != length or zlib.crc32(text) != crc:
        raise Refusal("its header has changed since it was written")
    header = json.loads(text)
    if not isinstance(header, dict) or header.keys() != {"nodes", "parameters", "values", "blocks"}:
        raise Refusal("its header has other keys than a packed network")
    lengths = [_count(entry[0], size) for entry in header["blocks"]]
    if START.size + length + sum(lengths) != size:
        raise Refusal(f"its blocks promise {sum(lengths)} bytes in a file of {size}")
    return header


class _Blocks:
    """Reads the blocks in their order."""

    def __init__(self, file: BinaryIO, table: list[Any], values: str) -> None:
        self.file, self.table, self.values, self.place = file, table, values, 0

    def next(self) -> bytes:
        """Returns the next block, if it is as it was written."""
        if self.place >= len(self.table):
            raise Refusal("it has fewer blocks than its nodes need")
        length, crc = self.table[self.place]
        self.place += 1
        block = self.file.read(length)
        if len(block) != length or zlib.crc32(block) != crc:
            raise Refusal(f"block {self.place} has changed since it was written")
        return block

    def array(self, row: dict[str, Any]) -> np.ndarray:
        """Returns an array of float32 of the shape that is told."""
        _keys(row, {"shape"})
        shape = _shape(row["shape"])
        return self._numbers(self.next(), "<f4", math.prod(shape)).reshape(shape)

    def weights(self, row: dict[str, Any]) -> Weights:
        """Returns sparse weights; no array is larger than the file allows."""
        _keys(row, {"shape", "kept", "k"})
        shape = _shape(row["shape"])
        size = math.prod(shape)
        kept = _count(row["kept"], size)
        unary, low, stored, scales = (self.next() for _ in range(4))
        values = self._numbers(stored, self.values, kept)
        factors = self._numbers(scales, "<f4", shape[0] if self.values == "|i1" else 0)
        k = _count(row["k"] + 1, size) - 1
        positions = decode(k, unary, low, kept, size)
        return Weights(shape, positions, _restored(values, factors, positions, shape))

    def taken(self, rows: list[dict[str, Any]]) -> tuple[int, ...]:
        """Returns the bytes of the blocks of every node."""
        lengths = iter([length for length, _ in self.table])
        return tuple(sum(islice(lengths, _arrays(row))) for row in rows)

    @staticmethod
    def _numbers(block: bytes, dtype: str, count: int) -> np.ndarray:
        if len(block) != count * np.dtype(dtype).itemsize:
            raise Refusal(f"a block of {len(block)} bytes does not hold {count} numbers {dtype}")
        found = np.frombuffer(block, dtype)
        return found.astype(np.float32) if dtype == "<f4" else found


def _graph(header: dict[str, Any], blocks: _Blocks) -> Graph:
    rows = header["nodes"]
    if not isinstance(rows, list) or len(rows) > MOST_NODES:
        raise Refusal("its nodes are no list or too many")
    nodes = tuple(_node(row, blocks) for row in rows)
    if blocks.place != len(blocks.table):
        raise Refusal("it has more blocks than its nodes need")
    return Graph(nodes, _count(header["parameters"], 1 << 53))


def _node(row: dict[str, Any], blocks: _Blocks) -> Node:
    cls = NODES[row["kind"]]
    known = {field.name: str(field.type) for field in fields(cls)}
    _keys(row, {"kind", *known})
    return cls(**{name: _value(row[name], hint, blocks) for name, hint in known.items()})


def _arrays(row: dict[str, Any]) -> int:
    """Returns how many blocks a node has: four for weights, one for an array."""
    hints = {field.name: str(field.type) for field in fields(NODES[row["kind"]])}
    weights = sum(hint == "Weights" for hint in hints.values())
    arrays = [name for name, hint in hints.items() if "ndarray" in hint and row[name] is not None]
    return 4 * weights + len(arrays)


def _value(value: Any, hint: str, blocks: _Blocks) -> Any:
    if "ndarray" in hint:
        return None if value is None and "None" in hint else blocks.array(value)
    if hint == "Weights":
        return blocks.weights(value)
    if hint not in PLAIN:
        return _one_of(value, CHOICES[hint])
    kind, count = PLAIN[hint]
    values = [value] if count == 1 else value
    if not isinstance(values, list) or not all(type(v) is kind for v in values):
        raise Refusal(f"{short(value)} stands where {hint} belongs")
    if count > 1 and len(values) != count:
        raise Refusal(f"{short(value)} stands where {count} numbers belong")
    return value if count == 1 else tuple(values)


def _one_of(value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise Refusal(f"{short(value)} stands where one of {', '.join(choices)} belongs")
    return value


def _written(value: Any, hint: str) -> Any:
    """Returns the plain value that ``_value`` reads back."""
    if hint not in PLAIN:
        return value
    kind, count = PLAIN[hint]
    return kind(value) if count == 1 else [kind(v) for v in value]


PLAIN: dict[str, tuple[type, int]] = {  # how a field is written, and how many there are; 0: any
    "int": (int, 1),
    "bool": (bool, 1),
    "float": (float, 1),
    "Pair": (int, 2),
    "tuple[int, ...]": (int, 0),
    "tuple[float, ...]": (float, 0),
    "tuple[float, float]": (float, 2),
}
CHOICES = {"Code": get_args(Code), "How": get_args(How)}


def _keys(row: Any, wanted: set[str]) -> None:
    if not isinstance(row, dict) or row.keys() != wanted:
        raise Refusal(f"{short(row)} has other keys than {', '.join(sorted(wanted))}")


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise Refusal(f"{short(value)} is no shape")
    shape = tuple(_count(side, MOST_WEIGHTS) for side in value)
    if math.prod(shape) > MOST_WEIGHTS:
        raise Refusal(f"{short(value)} is a shape of too many places")
    return shape


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Refusal(f"{short(value)} is no number from 0 to {most}")
    return value
