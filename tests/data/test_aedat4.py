from __future__ import annotations

import struct
import sys

import lz4.frame
import numpy as np
import pytest
import zstandard

from spikeproof.data._aedat import read_aedat
from spikeproof.errors import Refusal

ROWS = [(1_700_000_000_000_010, 3, 0, 1), (1_700_000_000_000_010, 345, 5, 0)]
LATER = [(1_700_000_000_004_000, 0, 259, 1)]
PACK = {
    0: bytes,
    1: lz4.frame.compress,
    2: lambda data: lz4.frame.compress(data, compression_level=9, store_size=False),
    3: zstandard.ZstdCompressor().compress,
    4: lambda data: zstandard.ZstdCompressor(19, write_content_size=False).compress(data),
}


def stream(number, kind="EVTS", size=(260, 346)):
    return (
        f'<node name="{number}"><attr key="compression" type="string">NONE</attr>'
        f'<attr key="typeIdentifier" type="string">{kind}</attr><node name="info">'
        f'<attr key="sizeX" type="int">{size[1]}</attr>'
        f'<attr key="sizeY" type="int">{size[0]}</attr></node></node>'
    )


def description(*streams):
    return f'<dv version="2.0"><node name="outInfo">{"".join(streams)}</node></dv>'


def sized(data):
    return struct.pack("<I", len(data)) + data


def header(text, compression=0, index_at=-1):
    # root, identifier, layout (3 fields), pad, table: layout, text, compression, position
    layout = struct.pack("<HHHHH", 10, 24, 8, 16, 4) + bytes(2)
    table = struct.pack("<iIiiq", 12, 20, compression, 0, index_at)
    raw = text.encode() if isinstance(text, str) else text
    return sized(
        struct.pack("<I4s", 20, b"IOHE")
        + layout
        + table
        + struct.pack("<I", len(raw))
        + raw
        + b"\0"
    )


def events(rows, kind=b"EVTS", count=None):
    body = b"".join(struct.pack("<qhhBxxx", t, x, y, p) for t, x, y, p in rows)
    number = len(rows) if count is None else count
    # root, identifier, layout (1 field), pad, table: layout, vector; length, structs at 32
    start = struct.pack("<I4sHHHxxiIxxxxI", 16, kind, 6, 8, 4, 8, 8, number)
    return sized(start + body)


def packet(rows, number=0, compression=0, **knobs):
    content = PACK[compression](events(rows, **knobs))
    return struct.pack("<ii", number, len(content)) + content


def file4(*packets, text=None, compression=0, index=None):
    text = description(stream(0)) if text is None else text
    body = b"".join(packets)
    head = header(text, compression)
    if index is not None:
        head = header(text, compression, 14 + len(head) + len(body))
    return b"#!AER-DAT4.0\r\n" + head + body + (index or b"")


def read(tmp_path, blob, **knobs):
    path = tmp_path / "a.aedat4"
    path.write_bytes(blob)
    return read_aedat(path, **knobs)


def rows(found):
    columns = (found.t, found.x, found.y, found.p)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("compression", PACK)
def test_every_compression(tmp_path, compression):
    packets = [packet(part, compression=compression) for part in (ROWS, [], LATER)]
    found = read(tmp_path, file4(*packets, compression=compression))
    assert rows(found) == ROWS + LATER
    assert (found.height, found.width) == (260, 346)


def test_the_table_of_packets_is_no_packet(tmp_path):
    blob = file4(packet(ROWS), index=b"\xff" * 40)
    assert rows(read(tmp_path, blob)) == ROWS


def test_other_streams_are_skipped(tmp_path):
    text = description(stream(0, "FRME"), stream(1), stream(2, "IMUS"))
    blob = file4(packet(ROWS, 1), packet([], 0, kind=b"FRME"), packet(LATER, 1), text=text)
    assert rows(read(tmp_path, blob)) == ROWS + LATER


def test_one_of_two_cameras_is_picked(tmp_path):
    text = description(stream(0), stream(3, size=(480, 640)))
    blob = file4(packet(ROWS, 0), packet([(5, 639, 479, 1)], 3), text=text)
    assert rows(read(tmp_path, blob, stream=0)) == ROWS
    found = read(tmp_path, blob, stream=3)
    assert (found.height, found.width) == (480, 640)
    with pytest.raises(Refusal, match=r"event streams \[0, 3\] and stream is None"):
        read(tmp_path, blob)
    with pytest.raises(Refusal, match="stream is 7"):
        read(tmp_path, blob, stream=7)


def test_no_size_of_file_bounds_what_is_packed(tmp_path):
    bomb = zstandard.ZstdCompressor().compress(bytes(2**24))
    blob = file4(struct.pack("<ii", 0, len(bomb)) + bomb, compression=3)
    assert len(blob) < 2**12
    with pytest.raises(Refusal, match=r"more than 1000000 bytes.*raise max_bytes"):
        read(tmp_path, blob, max_bytes=1_000_000)


def test_packets_count_together(tmp_path):
    one = packet(ROWS, compression=1)
    limit = len(events(ROWS))
    assert read(tmp_path, file4(one, compression=1), max_bytes=limit)
    with pytest.raises(Refusal, match=f"more than {limit} bytes"):
        read(tmp_path, file4(one, one, compression=1), max_bytes=limit)


@pytest.mark.parametrize(("name", "compression"), [("lz4.frame", 1), ("zstandard", 3)])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, compression):
    monkeypatch.setitem(sys.modules, name, None)
    blob = file4(packet(ROWS, compression=compression), compression=compression)
    with pytest.raises(Refusal, match=r"pip install 'spikeproof\[events\]'"):
        read(tmp_path, blob)


BOMB = '<!DOCTYPE x [<!ENTITY a "aa">]>' + description(stream(0))
GOOD = file4(packet(ROWS))


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"#!AER-DAT4.0\r\n", "b'IOHE'"),
        (GOOD.replace(b"IOHE", b"IOHX"), "b'IOHX'"),
        (GOOD.replace(b"EVTS\6\0", b"FRME\6\0"), "b'FRME' of"),
        (GOOD[:-1], f"packet of {len(events(ROWS))} bytes where {len(events(ROWS)) - 1} are left"),
        (GOOD + b"\0\0\0", "where -5 are left"),
        (file4(), "no events"),
        (file4(packet([])), "no events"),
        (file4(packet(ROWS), text=BOMB), "declares entities"),
        (file4(packet(ROWS), text="<dv>"), "cannot be read"),
        (file4(packet(ROWS), text=b"\xff\xfe<"), "cannot be read"),
        (file4(packet(ROWS), text=description(stream("a"))), "cannot be read"),
        (file4(packet(ROWS), text=description(stream(0, size=(260, "")))), "cannot be read"),
        (file4(packet(ROWS), text=description(stream(0, size=(260, 10**9)))), "width is 10"),
        (file4(packet(ROWS), text=description(stream(0, size=(260, 345)))), "x reaches 345"),
        (file4(packet(ROWS), text=description()), r"event streams \[\]"),
        (file4(packet(ROWS), text=description(stream(0, "FRME"))), r"event streams \[\]"),
        (file4(packet(ROWS), compression=9), "compression 9"),
        (file4(packet(ROWS), compression=1), "cannot be unpacked"),
        (file4(packet(ROWS), compression=3), "cannot be unpacked"),
        (file4(packet([(5, -1, 0, 1)])), "column -1"),
        (file4(packet([(5, 0, -32768, 1)])), "row -32768"),
        (file4(packet([(-5, 0, 0, 1)])), "from -5"),
        (file4(packet([(2**62, 0, 0, 1)])), "time stamps run"),
        (file4(packet([(5, 0, 0, 7)])), "p reaches 7"),
        (file4(packet([(5, 0, 0, 1), (4, 0, 0, 1)])), "1 us before"),
        (file4(packet(ROWS, count=3)), "announces 3 items of 16 bytes"),
        (file4(packet(ROWS, count=2**32 - 1)), "announces 4294967295 items"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, blob, says):
    with pytest.raises(Refusal, match=says) as refusal:
        read(tmp_path, blob)
    assert "a.aedat4" in str(refusal.value)


@pytest.mark.parametrize("index_at", [0, 20, 10**6, -2, 2**62])
def test_a_wrong_place_for_the_table_is_refused(tmp_path, index_at):
    blob = b"#!AER-DAT4.0\r\n" + header(description(stream(0)), 0, index_at) + packet(ROWS)
    with pytest.raises(Refusal, match=f"at byte {index_at}"):
        read(tmp_path, blob)


@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_cut_frame_is_refused(tmp_path, size):
    for compression in (1, 3):
        content = PACK[compression](events(ROWS))[:size]
        blob = file4(struct.pack("<ii", 0, size) + content, compression=compression)
        with pytest.raises(Refusal, match=r"cannot be unpacked|is due"):
            read(tmp_path, blob)


@pytest.mark.parametrize("at", range(0, 40, 4))
@pytest.mark.parametrize("value", [0, 1, 3, 2**31, 2**32 - 1])
def test_no_offset_is_believed(tmp_path, at, value):
    inner = bytearray(events(ROWS))
    inner[at : at + 4] = struct.pack("<I", value)
    blob = file4(struct.pack("<ii", 0, len(inner)) + bytes(inner))
    try:
        found = read(tmp_path, blob)
    except Refusal:
        return
    # What passes has moved no offset: padding, or a field that says the same.
    assert len(found) <= 2


@pytest.mark.parametrize("compression", PACK)
def test_noise_is_read_or_refused(tmp_path, compression):
    blob = file4(packet(ROWS, compression=compression), compression=compression)
    rng = np.random.default_rng(compression)
    good = 0
    for k in range(200):
        damaged = np.frombuffer(blob, np.uint8).copy()
        damaged[rng.integers(14, len(blob))] = rng.integers(256)
        end = rng.integers(14, len(blob)) if k % 2 else len(blob)
        try:
            found = read(tmp_path, damaged[:end].tobytes())
            good += len(found) > 0
        except Refusal:
            continue
    assert 0 < good < 200
