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
        ({"control": "x"}, "control is '' in one record and 'x'"),
        ({"id": "other"}, "steps.other is absent"),
        ({"attack": {}}, "steps.pgd.attack.search is .* in one record and absent"),
        ({"source": {"name": "t"}}, "steps.pgd.source is None in one record and"),
        ({"everyone": True}, "steps.pgd.everyone is False in one record and True"),
        ({"id": "pgd", "threat": {"eps": 0.2}}, "steps.pgd.threat is None in one record and"),
        ({"limit": 7}, "steps.pgd.limit is 0 in one record and 7"),
        ({"steps": 2}, "steps.pgd is .* in one record and absent"),
        ({"steps": slice(None, None, -1)}, r"steps\[1\] is 'random' in one record and 'pgd'"),
    ],
)
def test_shards_of_different_runs_are_refused(linear, points, change, said):
    one, two = shards(linear, points, 2)
    if steps := change.get("steps"):
        steps = steps if isinstance(steps, slice) else slice(steps)
        change = {"steps": two.steps[steps]}
    elif not hasattr(two, next(iter(change))):  # of the last step
        change = {"steps": (*two.steps[:-1], replace(two.steps[-1], **change))}
    with pytest.raises(Refusal, match=said):
        merge([one, replace(two, **change)])
    with pytest.raises(Refusal):
        merge([replace(two, shard=(1, 2), **change), replace(one, shard=(2, 2))])


def test_a_shard_of_another_evaluation_is_refused_before_it_begins(linear, points, tmp_path):
    def run(part, suite=SUITE, **more):
        conditions = Conditions(shard=(part, 2), **more.pop("conditions", {}))
        evaluate(linear, points, Linf(0.1), suite, out=tmp_path, conditions=conditions, **more)

    run(1)
    for change, said in (
        ({"suite": Suite("s", SUITE.steps[:2])}, r"suite.steps.pgd is .* and absent here"),
        (
            {"suite": Suite("s", (*SUITE.steps[:2], Step("pgd", Attack(PGD(6)))))},
            "search.steps is 5",
        ),
        ({"suite": Suite("s", SUITE.steps[::-1])}, r"suite.steps\[1\].* is"),
        ({"control": type(linear)()}, "control is ''"),
        ({"transfer": {"t": type(linear)()}}, "suite.steps.S10-transfer-t is absent in"),
        ({"conditions": {"keep_adversarials": False}}, "adversarials is True"),
    ):
        with pytest.raises(Refusal, match=f"{said}.*shards are parts of one evaluation"):
            run(2, **change)
    assert not (tmp_path / "shard-2-of-2").exists()
    run(2)
    assert (tmp_path / "record.json").exists()


def test_shards_of_different_samples_are_refused(linear, points):
    one, two = shards(linear, points, 2)
    other = replace(two, data=replace(two.data, tensor_sha256="x"))
    with pytest.raises(Refusal, match=r"data\.tensor_sha256 is"):
        merge([one, other])
