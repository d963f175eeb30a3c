from __future__ import annotations

from dataclasses import replace

import pytest

from spikeproof.attacks import PGD, Attack, Linf, RandomSearch
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions, Step, Suite, evaluate, merge

SUITE = Suite(
    "s",
    (
        Step("random", Attack(RandomSearch(5)), everyone=True),
        Step("curve", Attack(PGD(3)), threat=Linf(0.5), limit=20),
        Step("pgd", Attack(PGD(5))),
    ),
)


def bits(record):
    return replace(record, times={}, environment={})


def shards(model, data, count, **more):
    return [
        evaluate(
            model, data, Linf(0.1), SUITE, conditions=Conditions(batch=5, shard=(k, count), **more)
        )
        for k in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shards_are_the_whole(linear, points, count):
    whole = evaluate(linear, points, Linf(0.1), SUITE)
    parts = shards(linear, points, count)
    assert sum(len(part.clean) for part in parts) == 41
    assert bits(merge(parts)) == bits(whole) == bits(merge(parts[::-1]))
    assert 0 < sum(whole.robust) < sum(whole.clean)


def test_doubts_of_a_shard_are_doubts_of_the_whole(linear, points):
    def lie(model, x, y, threat):
        return 1 - x

    suite = Suite("s", (Step("lie", lie),))
    parts = [
        evaluate(linear, points, Linf(0.1), suite, conditions=Conditions(shard=(k, 2)))
        for k in (1, 2)
    ]
    whole = evaluate(linear, points, Linf(0.1), suite)
    assert bits(merge(parts)) == bits(whole)
    assert whole.finding.status == "unreliable"


def test_every_shard_is_needed_once(linear, points):
    one, two, three = shards(linear, points, 3)
    for given in ([one, two], [one, two, two], [one, two, three, three]):
        with pytest.raises(Refusal, match=r"each of 1\.\.3 is needed once"):
            merge(given)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed is 0 in one record and 1"),
        ({"threat": {"kind": "linf", "eps": 0.2}}, "threat.eps is 0.1"),
        ({"model": {"weights_sha256": "x"}}, "model.weights_sha256 is"),
    ],
)
def test_shards_of_different_runs_are_refused(linear, points, change, said):
    one, two = shards(linear, points, 2)
    with pytest.raises(Refusal, match=said):
        merge([one, replace(two, **change)])


def test_shards_of_different_samples_are_refused(linear, points):
    one, two = shards(linear, points, 2)
    other = replace(two, data=replace(two.data, tensor_sha256="x"))
    with pytest.raises(Refusal, match=r"data\.tensor_sha256 is"):
        merge([one, other])
