from __future__ import annotations

import string

from spikeproof.data._named import SETS
from spikeproof.data._published import CHECKSUMS, CIFAR10, CIFAR100, FASHION


def test_class_names_are_complete():
    assert len(set(CIFAR10)) == 10
    assert len(set(CIFAR100)) == 100
    assert len(set(FASHION)) == 10
    assert list(CIFAR100) == sorted(CIFAR100)


def test_checksums_are_distinct_and_of_a_known_kind():
    sums = [value for files in CHECKSUMS.values() for value in files.values()]
    assert len(set(sums)) == len(sums)
    assert all(len(value) in (32, 64) and set(value) <= set(string.hexdigits) for value in sums)
    assert set(CHECKSUMS) < set(SETS)
