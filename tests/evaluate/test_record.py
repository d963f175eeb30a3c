from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Check,
    Finding,
    Manifest,
    Record,
    StepRecord,
    read_record,
    summary,
    wilson,
    write_record,
)

CLEAN = (True, True, True, False, True)


def step(name, success, *, counts=True, everyone=False, attacked=CLEAN, **more):
    zero = (0,) * len(success)
    return (
        StepRecord(
            id=name,
            attack={"search": {"kind": "pgd"}},
            everyone=everyone,
            threat=None if counts else {"kind": "linf", "eps": 0.5},
            skipped="",
            message="",
            attacked=attacked,
            success=success,
            inadmissible=(False,) * len(success),
            unconfirmed=(False,) * len(success),
            infeasible=(False,) * len(success),
            crashed=(False,) * len(success),
            at=tuple(3 * s for s in success),
            forwards=tuple(4 * a for a in attacked),
            backwards=zero,
            size=tuple(0.1 * s for s in success),
        )
        if not more
        else replace(step(name, success, counts=counts, attacked=attacked), **more)
    )


A = step("a", (True, False, False, False, False), everyone=True)
B = step("b", (False, True, False, False, False), attacked=(False, True, True, False, True))
CURVE = step("c", (True, True, True, False, True), counts=False)


def record(steps=(A, B, CURVE), clean=CLEAN):
    count = len(clean)
    return Record(
        model={"name": "M", "weights_sha256": "f" * 64, "parameters": 8},
        data=Manifest("d", tuple(range(count)), (0,) * count, (1, 2, 2), "t", "l", None),
        threat={"kind": "linf", "eps": 0.1},
        suite="mine",
        seed=0,
        places=tuple(range(count)),
        shard=(1, 1),
        clean=clean,
        steps=tuple(replace(s, size=tuple(_single(v) for v in s.size)) for s in steps),
        checks=(Check("C4", "budget", 0, 0, "pass"), Check("C7", "zero", None, None, "na", "x")),
        finding=Finding("flagged", ("C6",)),
        environment={"torch": "2"},
        times={"seconds": 1.5},
    )


def _single(value):
    import struct

    return struct.unpack("<f", struct.pack("<f", value))[0]


def test_a_record_comes_back_as_it_was(tmp_path):
    whole = record()
    write_record(tmp_path / "record.json", whole)
    assert read_record(tmp_path / "record.json") == whole


bits = st.lists(st.booleans(), min_size=1, max_size=40).map(tuple)


@given(bits, st.data())
def test_bits_and_numbers_of_any_length_come_back(tmp_path_factory, clean, data):
    attacked = tuple(data.draw(st.booleans()) and c for c in clean)
    success = tuple(data.draw(st.booleans()) and a for a in attacked)
    path = tmp_path_factory.mktemp("r") / "record.json"
    whole = record((step("a", success, attacked=attacked),), clean)
    write_record(path, whole)
    assert read_record(path) == whole


def test_what_follows_from_the_bits():
    found = record()
    assert found.broken == (A.success, B.success)  # a curve breaks nothing
    assert found.robust == (False, False, True, False, True)
    assert found.clean_accuracy == 0.8
    assert found.robust_accuracy == 0.4
    assert found.interval == wilson(2, 5)


def test_the_summary_says_it_in_numbers():
    said = summary(record())
    assert (said["samples"], said["robust_accuracy"], said["forwards"]) == (5, 0.4, 16 + 12 + 16)
    a, b, curve = said["steps"]
    assert (a["robust_accuracy"], a["success_over_correct"]) == (0.6, 0.25)
    assert (a["cumulative"], b["cumulative"], a["only_by"], b["only_by"]) == (0.6, 0.4, 1, 1)
    assert "robust_accuracy" not in b, "a step that met survivors has no accuracy of its own"
    assert "cumulative" not in curve
    assert (b["attacked"], b["forwards_per_sample"], b["median_query"]) == (3, 4, 3)
    assert b["median_size"] == pytest.approx(0.1)


def test_a_step_that_broke_nothing_has_no_median():
    said = summary(record((step("a", (False,) * 5),)))["steps"][0]
    assert said["broke"] == 0
    assert "median_query" not in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "has schema 2; this version reads schema 1"),
        ({"schema": None}, "has schema None"),
        ({"kind": "training"}, "is of kind 'training'"),
        ({"clean": "!!"}, "is damaged"),
        ({"clean": "AAAA"}, "is damaged .*3 bytes of bits for 5 samples"),
        ({"steps": [{}]}, "is damaged"),
        ({"places": None}, "is damaged"),
        ({"data": {}}, "is damaged"),
        ({"checks": [{"id": "C1"}]}, "is damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, change, said):
    path = tmp_path / "record.json"
    write_record(path, record())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Refusal, match=said):
        read_record(path)


def test_numbers_that_do_not_fit_the_bits_are_damage(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, record())
    values = json.loads(path.read_text())
    values["steps"][0]["at"] = "AAAAAA=="
    path.write_text(json.dumps(values))
    with pytest.raises(Refusal, match="1 values of at for 4 samples"):
        read_record(path)
