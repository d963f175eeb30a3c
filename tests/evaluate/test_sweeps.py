from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import L0, L1, L2, PGD, Flips, Linf, RelaxedLinf, Retiming, Threat
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions, evaluate, points, roles_of, sweeps
from spikeproof.evaluate._sweeps import BUDGETS, ITERATIONS, WIDTHS, climber
from spikeproof.spiking import ASSG

THREATS = (
    Linf(8 / 255),
    L2(0.5),
    L1(4.0),
    L0(10),
    Flips(20),
    Retiming(2),
    RelaxedLinf(0.1, 0.0, high=3.0),
)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_every_threat_has_an_ascent_and_curves_of_it(net, threat):
    suite = sweeps(net, threat, (None, ASSG()))
    suite.check(threat)
    assert climber(threat).climbs
    assert sum(step.counts for step in suite.steps) == 1
    ids = [step.id for step in suite.steps]
    assert len(ids) == len(set(ids))
    assert {f"steps-{n}" for n in ITERATIONS} | {f"width-{w:g}" for w in WIDTHS} < set(ids)
    assert "rule-1" in ids
    assert "rule-0" not in ids


def test_budgets_stay_within_the_range_and_are_whole_where_they_count():
    def sizes(threat, name):
        steps = sweeps(torch.nn.Identity(), threat).steps
        return [getattr(s.threat, name) for s in steps if s.id.startswith("budget")]

    assert sizes(Linf(0.3), "eps") == pytest.approx([0.3 * f for f in BUDGETS if 0.3 * f <= 1])
    assert sizes(Flips(2), "k") == [1, 2, 4, 8]
    assert sizes(Retiming(3), "budget") == [1, 2, 3, 6, 12]


def test_an_unknown_threat_is_refused():
    class Own(Threat):
        project = admits = size = random = None

    with pytest.raises(Refusal, match="no ascent that is known"):
        climber(Own())


def test_the_curves_are_those_of_the_record(net, handwriting):
    threat, rules = Linf(0.05), (None, ASSG())
    suite = sweeps(net, threat, rules)
    roles = roles_of(suite, threat)
    assert sorted(roles.steps) == list(ITERATIONS)
    assert len(roles.eps) == len(BUDGETS)
    record = evaluate(net, handwriting, threat, suite, conditions=Conditions(limit=30))
    found = points(record, rules)
    assert len(found) == len(suite.steps) - 1
    by = {(p.over, p.value): sum(p.standing) for p in found}
    assert by["budget", 0.2] < by["budget", 0.0125] <= sum(record.clean)
    assert [p.name[:4] for p in found if p.over == "rule"] == ["ASSG"]
    assert not any(p.skipped for p in found)


def test_a_network_without_neurons_has_no_widths(linear, points):
    suite = sweeps(linear, Linf(0.1))
    assert not any(step.id.startswith("width") for step in suite.steps)
    record = evaluate(linear, points, Linf(0.1), suite)
    assert not any(step.skipped for step in record.steps)
    assert PGD(steps=10) == climber(Linf(0.1))
