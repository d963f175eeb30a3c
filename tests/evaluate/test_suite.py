from __future__ import annotations

import json

import pytest

from spikeproof.attacks import L2, PGD, SAPGD, Attack, Linf
from spikeproof.errors import Refusal
from spikeproof.evaluate import Adaptive, Step, Suite
from spikeproof.evaluate._suite import before_audits, plain
from spikeproof.spiking import ASSG


def walk(standing):
    standing.look(standing.x)


def test_ids_are_there_and_tell_steps_apart():
    step = Step("a", Attack(PGD()))
    with pytest.raises(Refusal, match="several steps 'a'"):
        Suite("s", (step, step))
    with pytest.raises(Refusal, match="has no id"):
        Step(" ", Attack(PGD()))
    with pytest.raises(Refusal, match="limit -1"):
        Step("a", Attack(PGD()), limit=-1)


def test_a_suite_needs_an_attack_that_counts():
    for steps in ((), (Step("curve", Attack(PGD()), threat=Linf(0.5)),)):
        with pytest.raises(Refusal, match="no attack that counts"):
            Suite("s", steps)


def test_a_search_that_cannot_move_in_the_threat_is_refused_before_anything_runs():
    suite = Suite("s", (Step("a", Attack(PGD())), Step("b", Attack(SAPGD()))))
    suite.check(Linf(0.1))
    with pytest.raises(Refusal, match="step b searches with sapgd"):
        suite.check(L2(0.5))


def test_what_a_record_keeps_of_a_suite_is_plain_and_has_no_address():
    steps = (Step("a", Attack(PGD(), rule=ASSG())), Step("b", Attack(Adaptive(walk))))
    values = plain(Suite("s", steps))
    assert json.loads(json.dumps(values)) == values
    assert values["steps"][0]["attack"]["rule"]["vanishing"] == 0.85
    assert values["steps"][1]["attack"]["search"]["function"].endswith(".walk")
    assert "0x" not in json.dumps(values)


def test_the_name_of_an_attack_of_your_own_is_that_of_its_function():
    assert Attack(Adaptive(walk)).name == Attack(Adaptive(walk)).name
    assert "0x" not in Attack(Adaptive(walk)).name


def test_more_steps_come_before_those_that_meet_the_first_samples_alone():
    a, b, c = Step("a", Attack(PGD())), Step("b", Attack(PGD()), limit=9), Step("c", Attack(PGD()))
    assert before_audits((a, b), (c,)) == (a, c, b)
    assert before_audits((a,), (c,)) == (a, c)
    assert before_audits((a, b), ()) == (a, b)
