from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spikeproof.attacks import (
    APGD,
    CE,
    DLR,
    PGD,
    Attack,
    Linf,
    TargetedDLR,
    run,
    under_attack,
)
from spikeproof.evaluate import Conditions, Step, Suite, _ahead, evaluate
from spikeproof.evaluate._ahead import Ahead
from spikeproof.spiking import ASSG, CBA, HART

THREAT = Linf(0.06)
RULES = {"own": None, "assg": ASSG(), "cba": CBA(), "hart": HART()}
STEPS = (
    *(Step(f"ce-{name}", Attack(APGD(8), CE(), rule)) for name, rule in RULES.items()),
    Step("targets", Attack(APGD(6, targets=9), TargetedDLR(), ASSG())),
    Step("restarts", Attack(APGD(12), DLR(), restarts=3)),
    Step("curve", Attack(APGD(12), DLR(), restarts=3), threat=Linf(0.1)),
)


def bits(record):
    return replace(record, times={}, environment={})


@pytest.mark.parametrize("batch", [3, 40])
def test_records_are_those_of_step_by_step(net, handwriting, monkeypatch, batch):
    conditions = Conditions(limit=40, batch=batch)

    def found():
        return evaluate(net, handwriting.test, THREAT, Suite("s", STEPS), conditions=conditions)

    ahead = found()
    assert 0 < sum(ahead.robust) < sum(ahead.clean)
    monkeypatch.setattr(_ahead, "together", lambda *_: False)
    assert bits(found()) == bits(ahead)


def unasked(*_):
    raise AssertionError("this step shares its batch")


def wanted(net, handwriting, steps=STEPS):
    x, y = handwriting.test.batch(torch.arange(12))
    ahead = Ahead(net, THREAT, steps, 0)

    def ask(number, places, alone=unasked):
        rows = torch.tensor(places)
        return ahead.outcome(number, places, x[rows], y[rows], rows, 64, alone)

    return ahead, ask


def test_a_step_runs_with_its_mates_and_each_gets_its_seconds(net, handwriting, monkeypatch):
    asked = []
    together = _ahead.run_together
    monkeypatch.setattr(
        _ahead,
        "run_together",
        lambda a, *more, **k: asked.append(len(a)) or together(a, *more, **k),
    )
    with under_attack(net):
        _, ask = wanted(net, handwriting)
        outcome, seconds = ask(1, list(range(12)))
        assert asked == [3], "the rules of one search, without the one that has its own logits"
        assert seconds > 0
        left = (~outcome.fallen).nonzero().squeeze(1).tolist()
        _, more = ask(2, left[:2])
        assert more > 0
        ask(2, left[2:])
        assert asked == [3]
        ask(5, left)
        assert asked == [3, 1]


def test_who_was_not_expected_is_run_anew(net, handwriting):
    with under_attack(net):
        _, ask = wanted(net, handwriting)
        first, _ = ask(1, list(range(12)))
        fallen = first.fallen.nonzero().squeeze(1).tolist()
        assert fallen
        again, _ = ask(2, list(range(12)))  # as if the judge had believed no claim
        _, fresh = wanted(net, handwriting, (STEPS[1],))
        whole, _ = fresh(1, list(range(12)))
        assert torch.equal(again.x_adv, whole.x_adv)
        assert torch.equal(again.at, whole.at)


def test_a_failure_ahead_is_the_step_s_own_to_find(net, handwriting, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    x, y = handwriting.test.batch(torch.arange(4))
    monkeypatch.setattr(_ahead, "run_together", broken)
    attack = STEPS[0].attack
    with under_attack(net):
        _, ask = wanted(net, handwriting)
        outcome, _ = ask(
            1, [0, 1, 2, 3], lambda x, y, ids: run(attack, net, x, y, THREAT, ids=ids, seed=7)
        )
        expected = run(attack, net, x, y, THREAT, ids=torch.arange(4), seed=7)
    assert torch.equal(outcome.x_adv, expected.x_adv)


def test_steps_for_everyone_and_other_threats_run_alone(net, handwriting):
    pgd = Attack(PGD(3))
    steps = (
        Step("a", pgd, everyone=True),
        Step("b", pgd, limit=5),
        Step("c", pgd, threat=Linf(0.2)),
        Step("d", pgd, source=lambda model: model),
    )
    _, ask = wanted(net, handwriting, steps)
    x, y = handwriting.test.batch(torch.arange(2))
    own = run(pgd, net, x, y, THREAT, ids=torch.arange(2))
    for number in range(1, 5):
        assert ask(number, [0, 1], lambda *_: own)[0] is own
