"""Measurements of hand-made models whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from spikeproof import models, seeding
from spikeproof.attacks import L2, Flips, Linf, fingerprint
from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import LIMITS
from spikeproof.evaluate._probes import _degree, _flat, probe
from spikeproof.spiking import (
    BPTT,
    IF,
    Frames,
    Poisson,
    StraightThrough,
    Triangle,
    drawing_from,
)

COUNT = 12
NO_BALL = Flips(1, binary=True)  # a threat without short attacks


def samples():
    draw = torch.rand(COUNT, 1, 4, 4, generator=seeding.generator(0, "x"))
    return draw, (draw.flatten(1).mean(1) > draw.mean()).long()


class Linear(nn.Module):
    """Brighter than a threshold, or not: right about all samples, with a gradient everywhere."""

    def __init__(self, scale=20.0):
        super().__init__()
        x, _ = samples()
        self.middle, self.scale = nn.Parameter(x.mean()), scale

    def forward(self, x):
        bright = self.scale * (x.flatten(1).mean(1) - self.middle)
        return torch.stack([-bright, bright], 1)


def checks_of(model, threat=None, x=None, **knobs):
    given, y = samples()
    x = given if x is None else x
    found = probe(model, x, y, threat or Linf(0.1), rules=(None,), **knobs)
    assert [check.id for check in found] == list(LIMITS)
    return {check.id: check for check in found}


def bad(checks):
    return {id for id, check in checks.items() if check.verdict in ("flag", "fail")}


def test_a_linear_model_raises_no_doubt_about_its_gradient():
    checks = checks_of(Linear())
    assert bad(checks) == set()
    assert checks["C9"].value < 0.1  # a direction may be level to the last bit
    assert checks["C8"].verdict == "na"
    assert checks["C13"].value == 0


def test_the_same_probe_gives_the_same_numbers_and_leaves_no_trace():
    model = Linear().train()
    before, state = fingerprint(model), torch.get_rng_state()
    first, second = checks_of(model, seed=3), checks_of(model, seed=3)
    assert first == second
    assert model.training
    assert model.middle.requires_grad
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not model._forward_hooks


def test_euclidean_balls_are_probed_too():
    checks = checks_of(Linear(), L2(0.5))
    assert checks["C13"].verdict == "pass"
    assert checks["C14"].verdict == "pass"


def test_probabilities_are_told_from_logits():
    class Shares(Linear):
        def forward(self, x):
            return super().forward(x).softmax(1)

    check = checks_of(Shares())["C3"]
    assert (check.value, check.verdict) == (1.0, "flag")
    assert "as probabilities do" in check.detail
    tied = checks_of(Linear(0.0))["C3"]
    assert (tied.value, tied.verdict) == (1.0, "flag")
    assert "100.0% tied" in tied.detail
    assert checks_of(Linear(1e4))["C3"].verdict == "flag"  # exp(-88) is no number of fp32


def test_the_company_of_a_sample_must_not_matter():
    class Normed(Linear):
        def forward(self, x):
            return super().forward(x - x.mean() + self.middle)

    assert "C2" in bad(checks_of(Normed()))
    assert "C1" not in bad(checks_of(Normed()))


def test_noise_is_no_memory_and_memory_is_no_noise():
    class Noisy(Linear):
        def forward(self, x):
            return super().forward(x) + torch.randn(len(x), 2)

    class Remembering(Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + torch.tensor([self.calls, 0.0])

    noisy, remembering = checks_of(Noisy()), checks_of(Remembering())
    assert {"C1", "C20"} <= bad(noisy)
    assert "C2" not in bad(noisy)
    assert {"C1", "C2"} <= bad(remembering)
    assert remembering["C20"].verdict == "na"


def test_a_generator_of_the_models_own_is_noise_and_comes_back_as_it_was():
    setting = models.Setting(1, 4, 2, 4, IF(), Poisson())
    source = seeding.generator(0, "noise")
    model = drawing_from(models.build(models.MLP((8,)), setting).eval(), source)
    before = source.get_state()
    checks = checks_of(model, NO_BALL)
    assert {"C1", "C20"} <= bad(checks)
    assert "C2" not in bad(checks)
    assert torch.equal(source.get_state(), before)


def test_without_a_gradient_the_graph_is_broken():
    class Cut(Linear):
        def forward(self, x):
            return super().forward(x.detach()).detach()

    checks = checks_of(Cut())
    assert (checks["C6"].value, checks["C6"].verdict) == (1.0, "fail")
    assert "does not reach its input" in checks["C6"].detail
    assert checks["C7"].verdict == "na"
    assert checks["C1"].verdict == "pass"


def test_gradients_that_are_not_finite_fail():
    class Root(Linear):
        def forward(self, x):
            zero = (x - x.detach()).abs().sqrt().flatten(1).sum(1)
            return super().forward(x) + zero[:, None]

    check = checks_of(Root())["C6"]
    assert (check.value, check.verdict) == (1.0, "fail")


def test_vanishing_degree_in_closed_form():
    u = torch.tensor([0.0, 0.5, -0.5, 1.0, 7.0])
    mass = [0, 0.75, 0.75, 1, 1]  # of a triangle within |u|
    assert _degree(Triangle(1.0), u) == pytest.approx(sum(mass) / 5)
    assert _degree(StraightThrough(), u) == pytest.approx(0, abs=1e-8)


def test_a_narrow_surrogate_has_vanished():
    def degree(width):
        setting = models.Setting(1, 4, 2, 4, IF(rule=BPTT(Triangle(width))))
        return checks_of(models.build(models.MLP((8,)), setting), NO_BALL)["C8"]

    assert degree(1e-3).verdict == "flag"
    assert degree(1e-3).value > 0.99
    assert degree(20.0).verdict == "pass"


def test_what_is_left_of_a_climb():
    rising = torch.linspace(0, 1, 101)[:, None]
    done = torch.cat([torch.linspace(0, 1, 50), torch.ones(51)])[:, None]
    falling = torch.linspace(1, 0, 101)[:, None]
    assert _flat(rising) == pytest.approx(0.1)
    assert _flat(done) == 0
    assert _flat(torch.cat([done, rising], 1)) == pytest.approx(0.05)
    assert _flat(falling) == 0
    assert _flat(torch.empty(0, 3)) == _flat(torch.empty(5, 0)) == 0


def test_event_frames_are_probed_as_far_as_a_model_can_tell():
    setting = models.Setting(1, 4, 2, 3, IF(), Frames())
    model = models.build(models.MLP((8,)), setting).eval()
    x = (torch.rand(COUNT, 3, 1, 4, 4, generator=seeding.generator(0, "e")) < 0.5).float()
    checks = checks_of(model, Flips(3, binary=True), x)
    made = {id for id, check in checks.items() if check.verdict != "na"}
    assert made == {"C1", "C2", "C3", "C4", "C6", "C7", "C8"}
    assert math.isfinite(checks["C8"].value)


def test_nothing_to_probe_with_is_refused():
    x, y = samples()
    with pytest.raises(Refusal, match="no samples to probe with"):
        probe(Linear(), x[:0], y[:0], Linf(0.1))
