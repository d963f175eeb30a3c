from __future__ import annotations

from dataclasses import dataclass

import pytest

from spikeproof.errors import Refusal
from spikeproof.evaluate._parts import CHUNK, FOLDER, Parts


@dataclass(frozen=True)
class Squares:
    values: tuple[int, ...]


def squares(places):
    return Squares(tuple(place * place for place in places))


def test_all_samples_are_measured_in_chunks_and_told(tmp_path):
    told = []
    parts = Parts(tmp_path, CHUNK + 3, 2, told.append)
    parts.number = 2
    found = parts.of("a b", Squares, squares)
    assert [len(part.values) for part in found] == [CHUNK, 3]
    assert [(p.step, p.number, p.steps, p.done, p.of) for p in told] == [
        ("a b", 2, 2, CHUNK, CHUNK + 3),
        ("a b", 2, 2, CHUNK + 3, CHUNK + 3),
    ]
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [
        "a-b-00000000.json",
        f"a-b-{CHUNK:08d}.json",
    ]


def test_finished_chunks_are_believed(tmp_path):
    asked = []

    def make(places):
        asked.append(places)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return squares(places)

    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path, 2 * CHUNK, 1, None).of("a", Squares, make)
    again = Parts(tmp_path, 2 * CHUNK, 1, None).of("a", Squares, make)
    assert again == [squares(range(CHUNK)), squares(range(CHUNK, 2 * CHUNK))]
    assert [places.start for places in asked] == [0, CHUNK, CHUNK]


def test_a_measurement_that_fails_costs_itself_and_says_why():
    parts = Parts(None, 5, 1, None)

    def refuse(places):
        raise Refusal("no neurons; they are needed; add some")

    def break_(places):
        return {}["logits"]

    assert parts.of("one", Squares, refuse) == []
    assert parts.of("two", Squares, break_) == []
    assert parts.of("three", Squares, squares, most=2, chunk=1) == [Squares((0,)), Squares((1,))]
    assert parts.notes == [
        "one: no neurons; they are needed; add some",
        "two: KeyError: 'logits'",
    ]


def test_a_lack_of_memory_is_not_the_measurement_s_fault():
    def hungry(places):
        raise MemoryError

    with pytest.raises(MemoryError):
        Parts(None, 5, 1, None).of("one", Squares, hungry)
