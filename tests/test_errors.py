from __future__ import annotations

from spikeproof.errors import Refusal, nearest


def test_a_refusal_is_a_value_error():
    assert issubclass(Refusal, ValueError)


def test_the_nearest_name_is_offered_and_otherwise_all_of_them():
    assert nearest("lineer", ["linear", "conv"]) == "did you mean 'linear'?"
    assert nearest("zzz", ["b", "a"]) == "choose one of: a, b"
    assert nearest("", ["b", "a"]) == "choose one of: a, b"
