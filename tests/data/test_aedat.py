from __future__ import annotations

import struct

import numpy as np
import pytest

from spikeproof.data._aedat import read_aedat
from spikeproof.errors import Refusal

ROWS = [(10, 3, 0, 1), (10, 127, 5, 0), (4000, 0, 127, 1)]


def rows(events):
    columns = (events.t, events.x, events.y, events.p)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def read(tmp_path, blob, **knobs):
    path = tmp_path / "a.aedat"
    path.write_bytes(blob)
    return read_aedat(path, **knobs)


def file2(records, lines=("# jAER", "#End Of ASCII Header")):
    text = "".join(line + "\r\n" for line in ("#!AER-DAT2.0", *lines))
    return text.encode() + b"".join(struct.pack(">II", *record) for record in records)


def dvs128(t, x, y, p):
    return (127 - y) << 8 | x << 1 | p, t


def davis(t, x, y, p, height):
    return (height - 1 - y) << 22 | x << 12 | p << 11, t


def packet3(events, kind=1, source=0, wraps=0, valid=(), size=8, offset=4):
    body = b"".join(
        struct.pack("<Ii", x << 17 | y << 2 | p << 1 | (k not in valid), t)
        for k, (t, x, y, p) in enumerate(events)
    )
    count = len(body) // 8
    return struct.pack("<hhiiiiii", kind, source, size, offset, wraps, count, count, count) + body


def file3(*packets, lines=("#Format: RAW", "#Source 0: DVS128", "#!END-HEADER")):
    text = "".join(line + "\r\n" for line in ("#!AER-DAT3.1", *lines))
    return text.encode() + b"".join(packets)


def test_version_2_of_a_dvs128(tmp_path):
    found = read(tmp_path, file2([dvs128(*row) for row in ROWS]))
    assert rows(found) == ROWS
    assert (found.height, found.width) == (128, 128)


@pytest.mark.parametrize(("sensor", "size"), [("davis240", (180, 240)), ("davis346", (260, 346))])
def test_version_2_of_a_davis(tmp_path, sensor, size):
    wanted = [(0, 0, 0, 0), (7, size[1] - 1, 3, 1), (9, 5, size[0] - 1, 0)]
    other = [(1 << 31 | 77, 3), (1 << 10, 4)]  # a sample of a frame, a signal from outside
    records = [davis(*row, size[0]) for row in wanted]
    blob = file2([records[0], *other, *records[1:]])
    found = read(tmp_path, blob, sensor=sensor)
    assert rows(found) == wanted
    assert (found.height, found.width) == size


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("# AEChip: eu.seebetter.ini.chips.davis.Davis240C", (180, 240)),
        ("# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128", (128, 128)),
    ],
)
def test_version_2_names_its_sensor(tmp_path, line, size):
    found = read(tmp_path, file2([(0, 0)], lines=(line,)))
    assert (found.height, found.width) == size


def test_version_2_skips_what_is_no_event(tmp_path):
    special = [(0x8000 | 5, 0), (0x80000000, 1)]
    found = read(tmp_path, file2([*special, dvs128(*ROWS[0])]))
    assert rows(found) == ROWS[:1]


def test_version_2_goes_on_after_its_clock_wraps(tmp_path):
    times = [2**31 - 1, 2**31, 2**32 - 5, 3, 2**32 - 1, 7]
    found = read(tmp_path, file2([dvs128(t, 0, 0, 0) for t in times]))
    assert found.t.tolist() == [*times[:3], 2**32 + 3, 2**33 - 1, 2**33 + 7]


def test_an_event_may_look_like_a_header_line(tmp_path):
    address = ord("#") << 24 | 7 << 12
    found = read(tmp_path, file2([(address, ord("\n"))], lines=()), sensor="davis240")
    assert rows(found) == [(10, 7, 179 - (address >> 22), 0)]


def test_version_3(tmp_path):
    blob = file3(
        packet3(ROWS[:1]),
        packet3([(5, 0, 0, 0)], kind=0),
        packet3([ROWS[1], (11, 1, 1, 1)], valid={1}),
        packet3(ROWS[2:], wraps=2),
    )
    found = read(tmp_path, blob)
    assert rows(found) == [*ROWS[:2], (2**32 + 4000, 0, 127, 1)]
    assert (found.height, found.width) == (128, 128)


def test_version_3_picks_a_camera(tmp_path):
    blob = file3(packet3(ROWS[:1], source=0), packet3(ROWS[1:], source=1))
    assert rows(read(tmp_path, blob, stream=1)) == ROWS[1:]
    with pytest.raises(Refusal, match=r"cameras \[0, 1\].*pass stream="):
        read(tmp_path, blob)


def test_version_3_of_another_sensor(tmp_path):
    lines = ("#Format: RAW", "#Source 1: DAVIS240C", "#!END-HEADER")
    found = read(tmp_path, file3(packet3([(1, 239, 179, 1)]), lines=lines))
    assert (found.height, found.width) == (180, 240)


def test_what_is_out_of_order_is_put_in_order_on_request(tmp_path):
    blob = file3(packet3(ROWS[::-1]))
    with pytest.raises(Refusal, match="3990 us before"):
        read(tmp_path, blob)
    assert rows(read(tmp_path, blob, sort=True)) == [ROWS[1], ROWS[0], ROWS[2]]


END = ("#!END-HEADER",)


@pytest.mark.parametrize(
    ("blob", "knobs", "says"),
    [
        (b"", {}, "empty"),
        (b"#!AER-DAT1.0\r\n" + bytes(6), {}, "starts with b'#!AER-DAT1.0'"),
        (b"\x89PNG" * 9, {}, "starts with"),
        (file2([]), {}, "no events"),
        (file2([(0x8000, 5)]), {}, "no events"),
        (file2([(0, 1)])[:-1], {}, "7 bytes of events"),
        (file2([(1 << 22, 1)]), {}, "address 0x400000"),
        (file2([(0, 5), (0, 4)]), {}, "1 us before"),
        (file2([(200 << 22, 5)]), {"sensor": "davis240"}, "column 0, row -21"),
        (file2([(240 << 12, 5)]), {"sensor": "davis240"}, "x reaches 240"),
        (file2([(0, 1)]), {"sensor": "davis24"}, "did you mean 'davis240'"),
        (file2([(0, 1)], lines=("# AEChip: Tmpdiff64",)), {}, "names the sensor"),
        (file3(packet3(ROWS), lines=("#Format: RAW",)), {}, "no #!END-HEADER"),
        (file3(packet3(ROWS), lines=("#Format: Serial", *END)), {}, "only RAW"),
        (file3(), {}, "no events"),
        (file3(packet3(ROWS, kind=2)), {}, "no events"),
        (file3(packet3(ROWS)[:20]), {}, "inside a packet header"),
        (file3(packet3(ROWS)[:-1]), {}, "announces 3 events of 8 bytes; 23 bytes"),
        (file3(packet3(ROWS, size=2**30)), {}, "announces 3 events of 1073741824"),
        (file3(packet3(ROWS, size=0)), {}, "announces 3 events of 0 bytes"),
        (file3(packet3(ROWS, size=-8)), {}, "of -8 bytes"),
        (file3(packet3(ROWS, size=4)), {}, "they have 8 and 4"),
        (file3(packet3(ROWS, offset=0)), {}, "they have 8 and 4"),
        (file3(packet3([(0, 128, 0, 1)])), {}, "x reaches 128"),
        (file3(packet3([(0, 0, 32767, 1)])), {}, "y reaches 32767"),
        (file3(packet3([(-1, 0, 0, 1)])), {}, "from -1"),
        (file3(packet3(ROWS, wraps=2**31 - 1)), {}, "time stamps run"),
        (file3(packet3(ROWS, wraps=-1)), {}, "time stamps run"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, blob, knobs, says):
    with pytest.raises(Refusal, match=says):
        read(tmp_path, blob, **knobs)


@pytest.mark.parametrize("blob", [file2([dvs128(*r) for r in ROWS]), file3(packet3(ROWS))])
def test_noise_is_read_or_refused(tmp_path, blob):
    rng = np.random.default_rng(0)
    good = 0
    for k in range(300):
        damaged = np.frombuffer(blob, np.uint8).copy()
        damaged[rng.integers(len(blob))] = rng.integers(256)
        end = rng.integers(len(blob)) if k % 2 else len(blob)
        try:
            found = read(tmp_path, damaged[:end].tobytes())
            good += len(found) > 0
        except Refusal:
            continue
    assert 0 < good < 300
