from __future__ import annotations

import dataclasses
import doctest

import pytest

from spikeproof.attacks import L2, Flips, Linf, RelaxedLinf, Retiming
from spikeproof.catalogue import read_threat
from spikeproof.report import _words
from spikeproof.report._words import (
    loss_words,
    rule_words,
    search_words,
    size_of,
    threat_text,
    threat_words,
    told_apart,
)
from tests.report.records import ASSG, ATAN, attack


def test_examples():
    assert not doctest.testmod(_words).failed


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        ({"kind": "l2", "eps": 0.5}, "L2 ≤ 0.5"),
        ({"kind": "flips", "k": 200, "binary": False}, "flips ≤ 200, not binary"),
        ({"kind": "linf", "eps": "<script>"}, "L∞"),
        ({}, "unknown threat"),
    ],
)
def test_threats_in_words(threat, words):
    assert threat_words(threat) == words


@pytest.mark.parametrize(
    "threat",
    [
        Linf(0.05), L2(1 / 3), Linf(0.5, -1.0, 2.0), Flips(20, binary=False), Flips(7),
        Retiming(1000, "b0"), RelaxedLinf(0.25, high=4.0),
    ],
    ids=repr,
)  # fmt: skip
def test_a_threat_is_typed_as_it_is_read(threat):
    values = dataclasses.asdict(threat)
    assert read_threat(threat_text(values)) == threat
    shuffled = dict(sorted(values.items()))  # as JSON keeps it
    assert read_threat(threat_text(shuffled)) == threat


def test_budgets_are_numbers_of_a_known_name():
    assert size_of({"kind": "retiming", "k": 2}) == 2
    assert size_of({"kind": "x", "eps": "1"}) is None
    assert size_of(None) is None


def test_attacks_in_words():
    made = attack("apgd", ASSG, "dlr_targeted", steps=100, targets=9) | {"restarts": 3}
    assert search_words(made) == "APGD-100, 9 targets \u00d7 3"
    assert loss_words(made) == "targeted DLR"
    assert search_words("package.function") == "package.function"
    assert rule_words(ASSG) == "assg(0.85), atan(1)"
    assert rule_words(None) == "own gradient"


def test_rules_of_one_name_are_told_apart_by_what_differs():
    other = ATAN | {"detach_reset": True}
    assert told_apart([None, ATAN, other]) == (
        "own gradient", "bptt, atan(4); not detach reset", "bptt, atan(4); detach reset",
    )  # fmt: skip
    assert told_apart([ATAN, ATAN]) == ("bptt, atan(4)",) * 2
