"""What the bits of a record say, told again from the record alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from spikeproof.attacks import PGD, SAPGD, Attack, Linf, RandomSearch
from spikeproof.evaluate import Conditions, Step, Suite, evaluate, merge, read_record, roles_of
from spikeproof.evaluate._reading import Reading, check_record, read_checks
from tests.evaluate.test_roles import SUITE as MANY
from tests.evaluate.test_roles import step as one_step

THREAT = Linf(0.1)
SUITE = Suite(
    "s",
    (
        Step("random", Attack(RandomSearch(20)), everyone=True),
        Step("pgd", Attack(PGD(10))),
        Step("noise", Attack(RandomSearch(20))),
        Step("half", Attack(PGD(10)), threat=Linf(0.5)),
        Step("whole", Attack(PGD(10)), threat=Linf(1.0)),
    ),
)


def read(model, data, **more):
    """A record that says how it is read, without the minutes that probing costs."""
    record = evaluate(model, data, THREAT, SUITE, conditions=Conditions(**more))
    known = Reading(roles_of(SUITE, THREAT), 2, unbounded=1.0)
    return replace(record, reading=known.plain)


def by_id(checks):
    return {check.id: check for check in checks}


def test_how_a_record_is_read_survives_the_disk():
    roles = replace(roles_of(MANY), steps={5: "a", 10: "b"}, draws={1: "c", 20: "d"})
    for unbounded in (1.0, math.inf):
        plain = Reading(roles, 7, stochastic=True, unbounded=unbounded).plain
        again = json.loads(json.dumps(plain, allow_nan=False))
        assert again == plain
        assert again["roles"]["eps"] == [[0.5, "half"], [1.0, "whole"]]


def test_a_record_is_read_as_its_bits_are(linear, points):
    record = read(linear, points)
    roles = roles_of(SUITE, THREAT)
    assert read_checks(record) == check_record(record, roles, classes=2, unbounded=1.0)
    assert by_id(read_checks(record))["C13"].verdict == "pass"
    assert read_checks(replace(record, reading={})) == ()


def test_shards_are_doubted_as_the_whole_is(linear, points):
    parts = [read(linear, points, shard=(k, 3)) for k in (1, 2, 3)]
    whole = read(linear, points)
    merged = merge(parts)
    assert read_checks(merged) == read_checks(whole)
    told = [check for check in read_checks(whole) if check.verdict != "na"]
    assert [check for check in merged.checks if check in told] == told
    apart = [by_id(read_checks(part))["C17"].detail for part in parts]
    assert by_id(merged.checks)["C17"].detail not in apart, "told from the bits of all"


@pytest.mark.parametrize(
    ("at", "verdict", "value"),
    [
        ([3, 10, 55, 60], "flag", 0.2),  # two of ten in the second half of 100 queries
        ([3, 10, 50, 50], "pass", 0.0),
        ([3, 10, 50, 51], "pass", 0.1),  # one sample is as fine as ten can tell
    ],
)
def test_what_falls_late_in_the_primary_attack_tells_that_it_was_stopped_early(at, verdict, value):
    fell = (True,) * 4 + (False,) * 6
    step = replace(one_step("apgd", fell), at=(*at, *[0] * 6), forwards=(*at, *[100] * 6))
    check = by_id(check_record(_record(step), roles_of(MANY), classes=2))["C11"]
    assert (check.verdict, check.value) == (verdict, pytest.approx(value))


def test_a_run_that_breaks_all_has_converged():
    step = replace(one_step("apgd", (True,) * 4), at=(1, 2, 30, 40), forwards=(1, 2, 30, 40))
    check = by_id(check_record(_record(step), roles_of(MANY), classes=2))["C11"]
    assert (check.verdict, check.value) == ("pass", 0)


def test_nobody_met_is_nothing_told():
    step = one_step("apgd", (False,) * 4, attacked=(False,) * 4)
    check = by_id(check_record(_record(step), roles_of(MANY), classes=2))["C11"]
    assert (check.verdict, check.detail) == (
        "na",
        "nobody stood when the primary attack began",
    )


def test_a_curve_over_draws_is_that_of_the_suite():
    primary = Attack(SAPGD(10), draws=10)
    curve = [
        Step(f"draws-{n}", replace(primary, draws=n), limit=5, threat=THREAT) for n in (1, 10, 20)
    ]
    roles = roles_of(Suite("n", (Step("main", primary), *curve)), THREAT)
    assert roles.draws == {1: "draws-1", 10: "draws-10", 20: "draws-20"}
    assert roles.steps == {}
    elsewhere = roles_of(Suite("n", (Step("main", primary), *curve)), Linf(0.3))
    assert elsewhere.draws == {}
    twice = Step("twice", replace(primary, draws=20))
    assert roles_of(Suite("n", (Step("main", primary), twice)), THREAT).draws == {
        10: "main",
        20: "twice",
    }


def test_twice_the_draws_on_survivors_are_added_to_the_first():
    yes, no = True, False
    ten = one_step("main", (yes, no, no, no))
    twenty = one_step("twice", (no, yes, no, no), attacked=(no, yes, yes, yes))
    primary = Attack(SAPGD(10), draws=10)
    suite = Suite("n", (Step("main", primary), Step("twice", replace(primary, draws=20))))
    found = check_record(_record(ten, twenty), roles_of(suite), classes=2, stochastic=True)
    check = by_id(found)["C20"]
    assert check.value == pytest.approx(0.25)
    assert check.detail == "75.0% with 10, 50.0% with 20"


def test_a_curve_over_iterations_is_that_of_the_suite():
    curve = [Step(f"n-{n}", Attack(SAPGD(n)), limit=5, threat=THREAT) for n in (5, 10, 20)]
    roles = roles_of(Suite("n", (Step("main", Attack(SAPGD(10))), *curve)), THREAT)
    assert roles.steps == {5: "n-5", 10: "n-10", 20: "n-20"}
    assert (roles.primary, roles.longest) == ("main", "n-20")
    assert roles.eps == {0.1: "n-10"}


def test_what_noise_alone_breaks_is_not_hidden_by_noise_coming_first(linear, points):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.view_as(x)

        @staticmethod
        def backward(_, d_x):
            return -d_x

    class Flipped(type(linear)):
        def forward(self, x):
            return super().forward(Wrong.apply(x))

    first = Suite("s", SUITE.steps[:2])  # the noise meets all, and what it breaks is gone
    record = evaluate(Flipped().eval(), points, Linf(0.2), first)
    noise, pgd = record.steps
    assert any(noise.success)
    assert pgd.attacked == record.clean, "what fell to noise alone meets the gradients"
    check = by_id(check_record(record, roles_of(first), classes=2))["C17"]
    alone = [a and not b for a, b in zip(noise.success, pgd.success, strict=True)]
    assert (check.verdict, check.value) == ("fail", sum(alone))
    honest = evaluate(linear, points, Linf(0.2), first)
    assert any(honest.steps[0].success)
    assert by_id(check_record(honest, roles_of(first), classes=2))["C17"].verdict == "pass"
    assert honest.robust == evaluate(linear, points, Linf(0.2), Suite("p", SUITE.steps[1:2])).robust


def test_a_record_on_the_disk_is_read_alike(linear, points, tmp_path):
    from spikeproof.evaluate import write_record

    record = read(linear, points)
    write_record(tmp_path / "r.json", record)
    assert read_checks(read_record(tmp_path / "r.json")) == read_checks(record)


def _record(*steps):
    from tests.evaluate.test_record import record

    size = len(steps[0].success)
    return replace(record(steps, (True,) * size))
