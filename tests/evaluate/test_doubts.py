"""Every evaluation is doubted in thirty ways, and a planted defect is not believed."""

from __future__ import annotations

import math

import pytest

from spikeproof.attacks import L1, L2, Flips, Linf
from spikeproof.evaluate import LIMITS, Conditions, FlippedGradient, evaluate
from spikeproof.evaluate._doubts import _unbounded

LIMITED = Conditions(limit=32)


@pytest.mark.doubtful
def test_all_checks_are_in_the_record_by_default(net, handwriting):
    record = evaluate(net, handwriting, Linf(0.1), "smoke", conditions=LIMITED)
    assert [check.id for check in record.checks] == list(LIMITS)
    assert not [check for check in record.checks if check.verdict == "fail"]


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
