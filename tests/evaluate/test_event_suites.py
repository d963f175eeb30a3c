from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import Flips, RelaxedLinf, Retiming
from spikeproof.data import Split
from spikeproof.evaluate import evaluate, named_suite, roles_of
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import Frames

SHAPE = (10, 2, 34, 34)


def test_flips_are_curved_over_the_budgets_of_the_literature():
    suite = named_suite("full", Flips(200), 10, SHAPE)
    curves = [s for s in suite.steps if not s.counts]
    for kind in ("E1-random-k-", "E2-sea-k-", "E5-k-"):
        curve = [s for s in curves if s.id.startswith(kind)]
        assert [s.threat.k for s in curve] == [50, 100, 200, 400, 800]
    assert [s.threat.k for s in curves if s.id.startswith("E3")] == [800]
    assert roles_of(suite).eps == {float(k): f"E5-k-{k}" for k in (50, 100, 200, 400, 800)}
    kinds = {s.attack.search.kind for s in suite.steps}
    assert {"sea", "sda", "topk", "spikefool", "gumbel", "frame_events", "random"} <= kinds


@pytest.mark.parametrize("threat", [Flips(200), Retiming(2)], ids=lambda t: t.kind)
def test_a_black_box_with_many_queries_ends_the_full_suite(threat):
    steps = {s.id: s for s in named_suite("full", threat, 10, SHAPE).steps}
    (last,) = (step for name, step in steps.items() if name.startswith("E9"))
    assert (last.attack.search.blind, last.limit) == (True, 200)
    known = named_suite("standard", threat, 10, SHAPE).steps
    assert not any(s.id.startswith("E9") for s in known)


@pytest.mark.parametrize(
    ("threat", "budgets"),
    [
        (Retiming(1), [1, 2, 3]),
        (Retiming(4000, "b1"), [1000, 2000, 4000, 8000, 16000]),
        (Retiming(2000, "b0"), [500, 1000, 2000, 4000, 8000]),
    ],
)
def test_retiming_is_curved_over_its_own_budgets(threat, budgets):
    steps = named_suite("standard", threat, 10, SHAPE).steps
    assert [s.threat.budget for s in steps if not s.counts] == budgets


def counts():
    """Few events, as a sensor gives them, and a network that is right on what it sees."""
    draw = torch.rand(12, 4, 2, 8, 8, generator=generator(0, "events"))
    x = (draw > 0.9).byte() + (draw > 0.97).byte()
    model = build(MLP((32,)), Setting(channels=2, size=8, T=4, encoder=Frames()), 0).eval()
    with torch.no_grad():
        for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
            layer.weight.mul_(4)  # an untrained network is silent, and a tie of logits is an error
        return model, Split(x, model(x.float()).argmax(1), 1.0)


@pytest.mark.parametrize("threat", [Flips(20, binary=False), Retiming(2)], ids=lambda t: t.kind)
def test_a_suite_of_events_runs_and_every_success_is_deliverable(threat):
    model, data = counts()
    record = evaluate(model, data, threat, "smoke")
    assert sum(record.clean) > 6
    checks = {check.id: check for check in record.checks}
    assert checks["C4"].verdict == checks["C5"].verdict == "pass"
    for step in record.steps:
        assert not step.skipped
        assert not any(step.crashed)
        assert max(step.size) <= (20 if isinstance(threat, Flips) else 2)
        assert all(size == int(size) for size in step.size)
    assert sum(record.robust) < sum(record.clean)


def test_relaxed_frames_fall_to_gradients_and_are_never_called_deliverable():
    model, data = counts()
    record = evaluate(model, data, RelaxedLinf(0.3, high=3.0), "smoke")
    assert record.suite == "smoke-relaxed-events"
    assert record.threat["kind"] == "relaxed_linf"
    assert not any(step.skipped or any(step.crashed) for step in record.steps)
    checks = {check.id: check for check in record.checks}
    assert checks["C4"].verdict == checks["C5"].verdict == "pass"
    broke = {step.id: sum(step.success) for step in record.steps}
    assert broke["E8-pgd-10"] > broke["E8-random"]
    assert max(max(step.size) for step in record.steps) <= 0.3 + 1e-6
    assert sum(record.robust) < sum(record.clean)
