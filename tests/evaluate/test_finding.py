from __future__ import annotations

from dataclasses import replace

import pytest

from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.evaluate import Check, Step, Suite, conclude, evaluate
from spikeproof.evaluate._finding import own_checks


@pytest.fixture
def record(linear, points):
    return evaluate(linear, points, Linf(0.1), Suite("s", (Step("a", Attack(PGD(3))),)))


def verdicts(checks):
    return {check.id: check.verdict for check in checks}


def test_nothing_seen_is_nothing_flagged(record):
    checks = own_checks(record.data, record.threat, record.steps, intact=True)
    passed = dict.fromkeys(("C4", "C5", "C6", "C29"), "pass")
    assert verdicts(checks) == passed | {"C28": "na"}
    assert conclude(checks, record.steps).status == "no evidence of masking"


@pytest.mark.parametrize(
    ("bits", "id"),
    [("inadmissible", "C4"), ("unconfirmed", "C5"), ("infeasible", "C28")],
    ids=["budget", "recheck", "events"],
)
def test_a_rejected_claim_fails_by_name_and_count(record, bits, id):
    record = replace(record, threat={"kind": "flips", "k": 3, "binary": True})
    wrong = (True, True) + (False,) * 39
    steps = (replace(record.steps[0], **{bits: wrong}),)
    checks = own_checks(record.data, record.threat, steps, intact=True)
    found = next(check for check in checks if check.id == id)
    assert (found.verdict, found.value, found.detail) == ("fail", 2, "2 in a")
    finding = conclude(checks, steps)
    assert finding.status == "unreliable"
    assert len(finding.reasons) == 1


def test_draws_of_noise_need_not_agree_and_what_did_not_hold_does_not_count(record):
    (step,) = record.steps
    bits = (True, True) + (False,) * 39
    drawing = replace(step, unconfirmed=bits, attack={**step.attack, "draws": 10})
    checks = own_checks(record.data, record.threat, (drawing,), intact=True)
    found = next(check for check in checks if check.id == "C5")
    assert found.verdict == "na"
    assert found.detail.startswith("2 claims")
    assert conclude(checks, (drawing,)).status == "no evidence of masking"


def test_a_step_that_could_not_run_is_a_flag(record):
    steps = (replace(record.steps[0], skipped="no gradient"),)
    checks = own_checks(record.data, record.threat, steps, intact=True)
    assert verdicts(checks)["C6"] == "flag"
    assert conclude(checks, steps).status == "flagged"


@pytest.mark.parametrize(
    ("training", "intact", "verdict"),
    [(None, True, "pass"), (0, True, "pass"), (1, True, "fail"), (0, False, "fail")],
)
def test_data_that_changed_or_was_trained_on(record, training, intact, verdict):
    data = replace(record.data, training=training)
    assert verdicts(own_checks(data, record.threat, record.steps, intact=intact))["C29"] == verdict


def test_a_few_images_that_a_published_set_holds_twice_are_a_flag(record):
    data = replace(record.data, training=1, indices=tuple(range(100)))
    assert verdicts(own_checks(data, record.threat, record.steps, intact=True))["C29"] == "flag"


def test_the_rule_of_the_finding(record):
    passing = Check("C1", "a", 0, 0, "pass")
    flag, fail = replace(passing, verdict="flag"), replace(passing, verdict="fail")
    crashed = (replace(record.steps[0], crashed=(True,) + (False,) * 40, message="boom"),)
    assert (
        conclude([passing, replace(passing, verdict="na")], ()).status == "no evidence of masking"
    )
    assert conclude([passing, flag], ()).status == "flagged"
    assert conclude([flag, fail], ()).status == "unreliable"
    assert conclude([passing], crashed).reasons == ("a crashed on 1 samples: boom",)
    assert conclude([passing], crashed).status == "unreliable"
