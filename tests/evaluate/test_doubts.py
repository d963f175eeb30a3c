"""Every evaluation is doubted in thirty ways, and a planted defect is not believed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from spikeproof.attacks import L1, L2, PGD, Attack, Flips, Linf, TopK
from spikeproof.data import Split
from spikeproof.evaluate import (
    LIMITS,
    Conditions,
    FlippedGradient,
    Step,
    Suite,
    evaluate,
    merge,
)
from spikeproof.evaluate._checks import NOBODY
from spikeproof.evaluate._doubts import _unbounded
from spikeproof.seeding import generator
from spikeproof.spiking import CBA

LIMITED = Conditions(limit=32)


@pytest.mark.doubtful
def test_all_checks_are_in_the_record_by_default(net, handwriting):
    record = evaluate(net, handwriting, Linf(0.1), "smoke", conditions=LIMITED)
    assert [check.id for check in record.checks] == list(LIMITS)
    assert not [check for check in record.checks if check.verdict == "fail"]
    found = {check.id: check for check in record.checks}
    assert found["C27"].verdict == "pass"
    assert found["C11"].verdict != "na"
    reasons = {id: check.detail for id, check in found.items() if check.verdict == "na"}
    assert NOBODY not in reasons.values(), "every check that is not made says why"
    assert reasons["C26"] == "no undefended network was given"
    assert reasons["C30"].startswith("one record")
    assert record == replace(merge([record]), times=record.times)


@pytest.mark.doubtful
def test_events_are_doubted_as_far_as_they_can_be():
    from tests.contracts.event_attack import recordings, small_network

    x, y = recordings(16, binary=True)
    model = small_network().eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    suite = Suite("e", (Step("topk", Attack(TopK(10))), Step("twin", Attack(TopK(10), rule=CBA()))))
    record = evaluate(model, Split(x, y, 1.0), Flips(24), suite)
    found = {check.id: check for check in record.checks}
    assert found["C28"].verdict == "pass"
    assert found["C24"].verdict in ("pass", "flag")
    for id in ("C9", "C21", "C22", "C23", "C25"):
        assert "norm balls" in found[id].detail
    assert "test the checks themselves" in found["C27"].detail
    assert NOBODY not in {check.detail for check in record.checks}


@pytest.mark.doubtful
def test_noise_is_doubted_by_the_curve_over_draws_of_the_suite(linear, points):
    class Noisy(type(linear)):
        def __init__(self):
            super().__init__()
            self.source = generator(0, "noisy")

        def forward(self, x):
            return super().forward(x) + 0.001 * torch.randn(len(x), 2, generator=self.source)

    record = evaluate(Noisy().eval(), points, Linf(0.1), Suite("s", (Step("p", Attack(PGD(3))),)))
    check = {check.id: check for check in record.checks}["C20"]
    assert (check.verdict, check.value) == ("flag", None)
    assert record.reading["stochastic"]


@pytest.mark.doubtful
def test_a_planted_defect_makes_the_result_unreliable(net, handwriting):
    record = evaluate(FlippedGradient(net), handwriting, Linf(0.1), "smoke", conditions=LIMITED)
    assert record.finding.status == "unreliable"
    failed = {check.id for check in record.checks if check.verdict == "fail"}
    assert failed & {"C10", "C17"}


def test_the_unbounded_budget_admits_everything():
    assert _unbounded(Linf(0.1), 64) == 1
    assert _unbounded(L2(0.1), 64) == 8
    assert _unbounded(L1(0.1), 64) == 64
    assert _unbounded(Flips(3), 64) == math.inf
