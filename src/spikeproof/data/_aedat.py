"""AEDAT 2.0, 3.1 and 4.0: the files of jAER, cAER and DV, of which only the events are read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spikeproof.data._aedat4 import read_packets, read_streams
from spikeproof.data._files import read_whole
from spikeproof.data._recordings import Array, Events, recording
from spikeproof.errors import Refusal, nearest

SENSORS = {"dvs128": (128, 128), "davis240": (180, 240), "davis346": (260, 346)}

_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1
_TEXT = bytes([9, *range(32, 127)])

Columns = tuple[Array, Array, Array, Array]


def read_aedat(
    path: Path,
    *,
    sensor: str | None = None,
    stream: int | None = None,
    sort: bool = False,
    max_bytes: int = 2**30,
) -> Events:
    """Returns the events of a recording in AEDAT 2.0, 3.1 or 4.0; row 0 is the upper edge.

    Versions 2 and 3 need the sensor: ``sensor``, or the one that the header names, or "dvs128".
    Versions 3 and 4 may hold several cameras, of which ``stream`` picks one by its number.
    Events that are not in order of time are refused, or put in order if ``sort``. Version 4 is
    refused if its events, unpacked, have more than ``max_bytes``.
    """
    blob = read_whole(path)
    version, _, rest = blob.partition(b"\n")
    size: tuple[int, int]
    match version.rstrip(b"\r"):
        case b"#!AER-DAT2.0":
            lines, at = _header(rest)
            name = _sensor(lines, sensor)
            size = SENSORS[name]
            columns = _version2(path, rest[at:], name)
        case b"#!AER-DAT3.1":
            lines, at = _header(rest)
            size = SENSORS[_sensor(lines, sensor)]
            _check_header3(path, lines)
            columns = _joined(_version3(path, rest, at, stream))
        case b"#!AER-DAT4.0":
            header = read_streams(path, rest, stream)
            size = header.size
            columns = _joined(read_packets(path, rest, header, max_bytes))
        case other:
            raise Refusal(
                f"{path} starts with {other[:16]!r}; an AEDAT file starts with #!AER-DAT and "
                "2.0, 3.1 or 4.0; convert it to one of them"
            )
    if sort:
        order = np.argsort(columns[0], kind="stable")
        t, x, y, p = (column[order] for column in columns)
        columns = (t, x, y, p)
    return recording(path, *columns, size)


def _header(rest: bytes) -> tuple[list[str], int]:
    """Returns the lines of text that start with # and where the data begins."""
    lines: list[str] = []
    at = 0
    # The first event may start with the byte of a #, but hardly with a line of text.
    while rest[at : at + 1] == b"#" and (end := rest.find(b"\n", at)) >= 0:
        line = rest[at:end].rstrip(b"\r")
        if line.translate(None, _TEXT):
            break
        lines.append(line.decode("ascii"))
        at = end + 1
        if line.strip(b"#! ").upper().replace(b"-", b" ") in (
            b"END HEADER",
            b"END OF ASCII HEADER",
        ):
            break
    return lines, at


def _sensor(lines: list[str], sensor: str | None) -> str:
    if sensor is None:
        sources = [line.lower() for line in lines if line.startswith(("# AEChip:", "#Source "))]
        named = [name for name in SENSORS for source in sources if name in source]
        if sources and not named:
            raise Refusal(
                f"the header names the sensor {sources[0]!r}; its layout is not known; "
                f"pass sensor= one of {', '.join(SENSORS)}"
            )
        return (named or ["dvs128"])[0]
    if sensor not in SENSORS:
        raise Refusal(f"unknown sensor {sensor!r}; {nearest(sensor, SENSORS)}")
    return sensor


def _version2(path: Path, data: bytes, sensor: str) -> Columns:
    if len(data) % 8:
        raise Refusal(
            f"{path} has {len(data)} bytes of events; an event has 8, so the last record is cut; "
            "take an unchanged copy"
        )
    address, clock = np.frombuffer(data, ">u4").astype(np.int64).reshape(-1, 2).T
    # A clock of 32 bits that falls by more than half its range has wrapped.
    wraps = np.cumsum(np.diff(clock, prepend=clock[:1]) < -(2**31))
    t = clock + (wraps << 32)
    if sensor == "dvs128":
        if len(wide := address[address & 0x7FFF0000 != 0]):
            raise Refusal(
                f"{path} has the address {wide[0]:#x}; those of a DVS128 have 16 bits; "
                "pass the right sensor="
            )
        kept = address & 0x80008000 == 0
        y, x, p = address >> 8 & 127, address >> 1 & 127, address & 1
    else:
        kept = address & 0x80000400 == 0
        y, x, p = address >> 22 & 511, address >> 12 & 1023, address >> 11 & 1
    y = SENSORS[sensor][0] - 1 - y  # the format's origin is the lower left corner
    return t[kept], x[kept], y[kept], p[kept]


def _check_header3(path: Path, lines: list[str]) -> None:
    formats = [line for line in lines if line.startswith("#Format:")]
    if any(line.split(":")[1].strip() != "RAW" for line in formats):
        raise Refusal(f"{path} says {formats[0]!r}; only RAW packets are read; convert it to RAW")
    if lines[-1:] != ["#!END-HEADER"]:
        raise Refusal(
            f"{path} has {len(lines)} header lines and no #!END-HEADER; version 3.1 ends its "
            "header so; take an unchanged copy"
        )


def _version3(path: Path, rest: bytes, at: int, stream: int | None) -> Iterator[Columns]:
    sources: set[int] = set()
    while at < len(rest):
        start = at + _PACKET.size
        if start > len(rest):
            raise Refusal(
                f"{path} ends inside a packet header; that has {_PACKET.size} bytes; "
                "take an unchanged copy"
            )
        kind, source, size, offset, wraps, _, count, _ = _PACKET.unpack_from(rest, at)
        at = start + size * count
        if size <= 0 or count < 0 or at > len(rest):
            raise Refusal(
                f"{path} announces {count} events of {size} bytes; {len(rest) - start} bytes "
                "are left; take an unchanged copy"
            )
        if kind != _POLARITY or stream not in (None, source):
            continue
        sources.add(source)
        if len(sources) > 1:
            raise Refusal(
                f"{path} has events of the cameras {sorted(sources)}; one of them is read; "
                "pass stream= its number"
            )
        if (size, offset) != (8, 4):
            raise Refusal(
                f"{path} has polarity events of {size} bytes with the time at {offset}; "
                "they have 8 and 4; take an unchanged copy"
            )
        data, clock = np.frombuffer(rest, "<i4", 2 * count, start).astype(np.int64).reshape(-1, 2).T
        kept = data & 1 == 1
        t = (wraps << 31) + clock
        yield t[kept], (data >> 17 & 32767)[kept], (data >> 2 & 32767)[kept], (data >> 1 & 1)[kept]


def _joined(packets: Iterator[Columns]) -> Columns:
    none = np.empty(0, np.int64)
    t, x, y, p = (
        np.concatenate(parts) for parts in zip((none, none, none, none), *packets, strict=True)
    )
    return t, x, y, p
