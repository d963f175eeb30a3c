from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spikeproof.attacks import PGD, Attack, Linf, RandomSearch
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions, Step, Suite, compare, evaluate, mcnemar

SUITE = Suite("s", (Step("pgd", Attack(PGD(5))),))


def record(model, points, *, eps=0.1, suite=SUITE, **more):
    return evaluate(model, points, Linf(eps), suite, conditions=Conditions(**more))


@pytest.fixture
def pair(linear, points):
    first = record(linear, points)
    with torch.no_grad():
        linear.weight.copy_(linear.weight * torch.tensor([1.0, 1.0, 0.0, 0.0]))
    return first, record(linear, points)


def test_a_pair_is_counted_sample_by_sample(pair):
    first, second = pair
    (found,) = compare({"a": first, "b": second})
    both = list(zip(first.robust, second.robust, strict=True))
    assert found.only_first == both.count((True, False)) > 0
    assert found.only_second == both.count((False, True)) > 0
    assert found.robust == (first.robust_accuracy, second.robust_accuracy)
    assert found.p == found.p_holm == mcnemar(found.only_first, found.only_second)


def test_all_pairs_are_corrected_together(pair):
    first, second = pair
    third = replace(second, clean=(False,) * 41)
    found = compare({"a": first, "b": second, "c": third})
    assert [(p.first, p.second) for p in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    smallest = min(found, key=lambda p: p.p)
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.p))
    assert all(p.p <= p.p_holm <= 1 for p in found)


def test_a_record_equals_itself(pair):
    (found,) = compare({"a": pair[0], "b": pair[0]})
    assert (found.only_first, found.only_second, found.p) == (0, 0, 1.0)


def test_one_record_is_no_comparison(pair):
    with pytest.raises(Refusal, match="needs two"):
        compare({"a": pair[0]})


def test_what_was_evaluated_differently_is_not_compared(linear, points):
    first = record(linear, points)
    longer = Suite("s", (Step("pgd", Attack(PGD(6))),))
    other = Suite("other", (Step("r", Attack(RandomSearch(2))),))
    shifted = points.take(torch.arange(40, -1, -1))
    for second, said in (
        (record(linear, points, eps=0.2), "threat.eps is 0.1 .* 0.2"),
        (record(linear, points, suite=other), "suite is 's' in one record and 'other'"),
        (record(linear, points, suite=longer), "have different steps"),
        (record(linear, points, seed=1), "seed is 0"),
        (record(linear, points, limit=20), "data.indices differs"),
        (record(linear, shifted), "differs between the records"),
        (record(linear, points, shard=(1, 2)), "different shards"),
    ):
        with pytest.raises(Refusal, match=said):
            compare({"a": first, "b": second})


def test_what_did_not_happen_to_both_is_marked(pair):
    first, second = pair
    (found,) = compare({"a": first, "b": second})
    assert (found.parity.id, found.parity.verdict) == ("C30", "pass")
    step = second.steps[0]
    for change, said in (
        ({"skipped": "no gradient"}, "attacks that were run"),
        ({"crashed": (True,) + (False,) * 40}, "attacks that crashed"),
        ({"source": {"name": "other"}}, "networks whose gradient was followed"),
    ):
        other = replace(second, steps=(replace(step, **change),))
        (found,) = compare({"a": first, "b": other})
        assert (found.parity.verdict, found.parity.value) == ("fail", 1)
        assert said in found.parity.detail
    everyone = replace(second, steps=(replace(step, everyone=not step.everyone),))
    with pytest.raises(Refusal, match="different steps"):
        compare({"a": first, "b": everyone})
