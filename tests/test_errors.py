from __future__ import annotations

import math

import pytest

from spikeproof.errors import Refusal, nearest, short, within


def test_a_refusal_is_a_value_error():
    assert issubclass(Refusal, ValueError)


def test_the_nearest_name_is_offered_and_otherwise_all_of_them():
    assert nearest("lineer", ["linear", "conv"]) == "did you mean 'linear'?"
    assert nearest("zzz", ["b", "a"]) == "choose one of: a, b"
    assert nearest("", ["b", "a"]) == "choose one of: a, b"


def test_long_values_become_short_ones():
    assert short({"a": 1}) == "{'a': 1}"
    assert short("x" * 10_000) == "'" + "x" * 39 + "..." + "x" * 16 + "'"
    assert short(10**5000) == "a int too long to show"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert short(deep) == "a list too long to show"


def test_bounds_belong_to_what_is_allowed():
    for value in (1, 3, 1.5):
        within("x", value, 1, 3)
    for value in (0, 3.001, math.nan, math.inf, -math.inf, 10**5000):
        with pytest.raises(Refusal, match=r"^x is .*; it must be a number from 1 to 3; change it"):
            within("x", value, 1, 3)
