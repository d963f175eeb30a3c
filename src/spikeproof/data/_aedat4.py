"""The inside of AEDAT 4.0: flatbuffers, an XML description, and compressed packets."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from spikeproof.data._files import CHUNK
from spikeproof.data._recordings import Array
from spikeproof.errors import Refusal

_EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)


@dataclass(frozen=True)
class Header:
    """Where the packets lie, how they are packed, and which stream is read."""

    start: int
    end: int
    compression: int
    stream: int
    size: tuple[int, int]


@dataclass(frozen=True)
class _Table:
    """The root table of a flatbuffer, in which no offset is believed."""

    path: Path
    data: bytes

    def number(self, code: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(code):
            raise Refusal(
                f"{self.path} points to byte {at} of a buffer of {len(self.data)}; offsets stay "
                "inside their buffer; take an unchanged copy"
            )
        return int(struct.unpack_from(code, self.data, at)[0])

    def field(self, index: int) -> int | None:
        """Returns where a field of the table lies; None if it has its default."""
        root = self.number("<I", 0)
        layout = root - self.number("<i", root)
        slot = 4 + 2 * index
        if slot + 2 > self.number("<H", layout):
            return None
        offset = self.number("<H", layout + slot)
        return root + offset if offset else None

    def scalar(self, index: int, code: str, default: int) -> int:
        at = self.field(index)
        return default if at is None else self.number(code, at)

    def vector(self, index: int, item: int) -> tuple[int, int]:
        """Returns where the items of a vector or string begin, and their number."""
        at = self.field(index)
        if at is None:
            return 0, 0
        start = at + self.number("<I", at)
        count = self.number("<I", start)
        if count * item > len(self.data) - start - 4:
            raise Refusal(
                f"{self.path} announces {count} items of {item} bytes in a buffer of "
                f"{len(self.data)}; they lie inside it; take an unchanged copy"
            )
        return start + 4, count


def read_streams(path: Path, rest: bytes, stream: int | None) -> Header:
    """Reads what follows the version line; offsets in the result count from there."""
    table = _sized(path, rest, b"IOHE")
    start = 4 + len(table.data)
    # The file counts from its first byte: 14 bytes of version line come before the rest.
    index_at = table.scalar(1, "<q", -1)
    end = len(rest) if index_at == -1 else index_at - 14
    if not start <= end <= len(rest):
        raise Refusal(
            f"{path} has its table of packets at byte {index_at}; that lies between the header "
            "and the end of the file; take an unchanged copy"
        )
    at, count = table.vector(2, 1)
    sizes = _event_streams(path, table.data[at : at + count])
    if stream is None and len(sizes) == 1:
        stream = next(iter(sizes))
    if stream is None or stream not in sizes:
        raise Refusal(
            f"{path} has the event streams {sorted(sizes)} and stream is {stream}; exactly one "
            "of them is read; pass stream= its number, or take another file if there is none"
        )
    return Header(start, end, table.scalar(0, "<i", 0), stream, sizes[stream])


def read_packets(
    path: Path, rest: bytes, header: Header, max_bytes: int
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Yields time, column, row and polarity of each packet of the chosen stream."""
    at, total = header.start, 0
    while at < header.end:
        left = header.end - at - 8
        stream, size = struct.unpack_from("<ii", rest, at) if left >= 0 else (0, 0)
        if not 0 <= size <= left:
            raise Refusal(
                f"{path} has a packet of {size} bytes where {left} are left; packets "
                "end inside the file; take an unchanged copy"
            )
        at += 8 + size
        if stream != header.stream:
            continue
        packed = rest[at - size : at]
        content = _unpacked(path, packed, header.compression, max_bytes - total)
        total += len(content)
        if total > max_bytes:
            raise Refusal(
                f"{path} unpacks to more than {max_bytes} bytes; so small a file may be a bomb; "
                "raise max_bytes if you trust it"
            )
        table = _sized(path, content, b"EVTS")
        first, count = table.vector(0, _EVENT.itemsize)
        events = np.frombuffer(table.data, _EVENT, count, first)
        yield events["t"], events["x"], events["y"], events["p"]


def _sized(path: Path, data: bytes, identifier: bytes) -> _Table:
    """Returns the flatbuffer behind its size, if it is of the right kind."""
    size = int.from_bytes(data[:4], "little")
    if not 8 <= size <= len(data) - 4 or data[8:12] != identifier:
        raise Refusal(
            f"{path} has {data[8:12]!r} of {size} bytes where {identifier!r} in "
            f"{len(data)} is due; take an unchanged copy"
        )
    return _Table(path, data[4 : 4 + size])


def _event_streams(path: Path, description: bytes) -> dict[int, tuple[int, int]]:
    """Returns height and width of every event stream in the XML of the header."""
    if b"<!DOCTYPE" in description or b"<!ENTITY" in description:
        raise Refusal(
            f"{path} declares entities in its XML; a recording needs none, and they can grow "
            "without bound; take an unchanged copy"
        )
    try:
        root = ElementTree.fromstring(description.decode())  # noqa: S314  no entities: see above
        return {
            int(node.attrib["name"]): (
                int(node.findtext("node[@name='info']/attr[@key='sizeY']", "")),
                int(node.findtext("node[@name='info']/attr[@key='sizeX']", "")),
            )
            for node in root.iterfind(".//node[@name='outInfo']/node")
            if node.findtext("attr[@key='typeIdentifier']") == "EVTS"
        }
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise Refusal(
            f"{path} describes its streams in a way that cannot be read ({error}); every event "
            "stream has a number, sizeX and sizeY; take an unchanged copy"
        ) from None


def _unpacked(path: Path, packed: bytes, compression: int, enough: int) -> bytes:
    """Returns the content of a packet; not all of it where that is more than enough."""
    try:
        match compression:
            case 0:
                return packed
            case 1 | 2:
                import lz4.frame

                file = lz4.frame.LZ4FrameFile(io.BytesIO(packed))
                return _read(path, file.read, enough, (RuntimeError, EOFError))
            case 3 | 4:
                import zstandard

                file = zstandard.ZstdDecompressor().stream_reader(packed)
                return _read(path, file.read, enough, (zstandard.ZstdError,))
    except ImportError:
        raise Refusal(
            f"{path} is compressed; unpacking it needs lz4 and zstandard; "
            "pip install 'spikeproof[events]'"
        ) from None
    raise Refusal(f"{path} has the compression {compression}; 0 to 4 are known; take another copy")


def _read(
    path: Path,
    read: Callable[[int], bytes],
    enough: int,
    errors: tuple[type[Exception], ...],
) -> bytes:
    found = bytearray()
    try:
        while len(found) <= enough and (part := read(CHUNK)):
            found += part
    except errors as error:
        raise Refusal(
            f"{path} has a packet that cannot be unpacked: {error}; it must be a whole frame; "
            "take an unchanged copy"
        ) from None
    return bytes(found)
