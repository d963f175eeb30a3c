from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.evaluate._packing import SHORT, packed, unpacked


@dataclass(frozen=True)
class Thing:
    name: str
    counts: tuple[int, ...]
    values: tuple[float, ...]
    bits: tuple[bool, ...]
    rows: tuple[tuple[float, ...], ...]
    inner: tuple[tuple[str, int], ...] = ()


numbers = st.lists(st.floats(allow_nan=False), max_size=40).map(tuple)


@given(
    counts=st.lists(st.integers(-3, 2**40), max_size=20).map(tuple),
    values=numbers,
    bits=st.lists(st.booleans(), max_size=40).map(tuple),
    rows=st.lists(numbers, max_size=4).map(tuple),
)
def test_what_is_packed_comes_back_bit_for_bit(counts, values, bits, rows):
    thing = Thing("a", counts, values, bits, rows, (("x", 1),) * 9)
    text = json.dumps(packed(asdict(thing)), allow_nan=False)
    assert unpacked(Thing, json.loads(text)) == thing


def test_what_json_lacks_is_kept():
    thing = Thing("a", (), (math.nan, math.inf), (), ())
    back = unpacked(Thing, json.loads(json.dumps(packed(asdict(thing)), allow_nan=False)))
    assert math.isnan(back.values[0])
    assert back.values[1] == math.inf


def test_short_rows_can_be_read_by_eye_and_long_ones_are_small():
    values = packed({"short": (1.5,) * (SHORT - 1), "long": (0.1,) * 1000})
    assert values["short"] == [1.5] * (SHORT - 1)
    assert len(values["long"]["f8"]) < 8 * 1000 * 1.34


@pytest.mark.parametrize(
    "damaged",
    [
        {"counts": {"bits": "AAAA", "count": 90}},
        {"counts": {"u4": "AAA"}},
        {"values": {"f8": "AAAA"}},
        {"name": None},
    ],
)
def test_damage_is_a_value_error(damaged):
    whole = {"name": "a", "counts": [], "values": [], "bits": [], "rows": []}
    assert unpacked(Thing, whole) == Thing("a", (), (), (), ())
    with pytest.raises(ValueError, match=r"."):
        unpacked(Thing, whole | damaged)
