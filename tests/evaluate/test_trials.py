"""Short attacks on models whose weakness is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeproof import seeding
from spikeproof.attacks import Linf
from spikeproof.evaluate import _trials
from spikeproof.evaluate._trials import differences, in_balls, named, rough, silent
from spikeproof.spiking import ASSG

COUNT = 12
BALL = Linf(0.1)


@pytest.fixture
def samples():
    x = torch.rand(COUNT, 1, 4, 4, generator=seeding.generator(0, "x"))
    return x, (x.flatten(1).mean(1) > 0.5).long()


class Mean(nn.Module):
    """Which side of a half the mean is on."""

    def score(self, x):
        return x.flatten(1).mean(1) - 0.5

    def forward(self, x):
        score = 20 * self.score(x)
        return torch.stack([-score, score], 1)


class Flipped(Mean):
    def score(self, x):
        score = super().score(x)
        return 2 * score.detach() - score  # the value of one, the gradient of minus one


class Flat(Mean):
    def score(self, x):
        return super().score(x).detach() + 0 * x.flatten(1).sum(1)


class Fine(Mean):
    """Wrong between the values of an 8-bit image only."""

    def forward(self, x):
        level = 255 * x
        off = ((level - level.round()).abs() > 0.2).flatten(1).any(1)
        sign = torch.where(off, -1.0, 1.0)[:, None]
        return sign * super().forward(x)


class Alone(Mean):
    """Right in a batch of twelve, or of one, and wrong in all others."""

    def forward(self, x):
        return super().forward(x) * (1 if len(x) in (1, COUNT) else -1)


def trials(model, x, y):
    found = in_balls(model.eval(), x, y, BALL, rules=(None,), best=None, noisy=False)
    worst = {"na": 0, "pass": 1, "flag": 2, "fail": 3}
    return {c.id: c for c in sorted(found, key=lambda check: worst[check.verdict])}


def test_what_a_gradient_can_do(samples):
    x, y = samples
    found = trials(Mean(), x, y)
    assert {check.verdict for check in found.values()} <= {"pass", "na"}
    assert set(found) >= {"C5", "C10", "C11", "C12", "C13", "C14", "C17", "C25"}
    assert found["C12"].detail.startswith("100.0% at 0, ")
    assert found["C12"].detail.endswith("0.0% at 0.5, 0.0% at 1")


@pytest.mark.parametrize("model", [Flipped(), Flat()])
def test_what_a_gradient_hides_is_found_without_it(model, samples):
    found = trials(model, *samples)
    assert found["C14"].verdict == "flag"
    assert found["C13"].verdict == "fail"
    assert found["C12"].verdict == "fail"


def test_a_wrong_sign_loses_against_noise(samples):
    found = trials(Flipped(), *samples)
    assert found["C10"].verdict == "fail"


def test_success_between_8_bit_values_is_told(samples):
    x, _ = samples
    coarse = (x * 255).round() / 255
    found = trials(Fine(), coarse, (coarse.flatten(1).mean(1) > 0.5).long())
    assert found["C25"].verdict == "flag"
    assert found["C25"].value > 0.1


def test_a_claim_must_hold_at_another_batch_size(samples):
    x, y = samples
    found = trials(Alone(), x, y)
    assert found["C5"].verdict == "fail"


def test_differences_know_the_sign_of_a_gradient(samples):
    x, y = samples
    right = differences(Mean(), x, y, BALL, (None,), seed=0)
    wrong = differences(Flipped(), x, y, BALL, (None,), seed=0)
    flat = differences(Flat(), x, y, BALL, (None,), seed=0)
    assert right.value < 0.5 < wrong.value
    assert [right.verdict, wrong.verdict, flat.verdict] == ["pass", "flag", "flag"]
    assert "own gradient 0.0%" in flat.detail

    class Still(Mean):
        def score(self, x):
            return 0 * x.flatten(1).sum(1)

    assert differences(Still(), x, y, BALL, (None,), seed=0).verdict == "na"


def test_the_noise_of_the_margin(samples):
    x, y = samples
    assert rough(Mean(), x, y, BALL, 0).value < 1e-3

    class Wild(Mean):
        def score(self, x):
            return super().score(x) * torch.sin(1e4 * x.flatten(1).sum(1)).sign()

    check = rough(Wild(), x, y, BALL, 0)
    assert (check.verdict, check.value <= 1) == ("flag", True)
    assert check.value > 0.3


def test_a_successful_iterate_must_be_returned(samples, monkeypatch):
    x, y = samples
    wide = Linf(0.5)
    assert silent(Mean(), x, y, wide).verdict == "pass"
    honest = _trials.run

    def forgetful(*words, **knobs):
        outcome = honest(*words, **knobs)
        return replace(outcome, fallen=torch.zeros_like(outcome.fallen))

    monkeypatch.setattr(_trials, "run", forgetful)
    check = silent(Mean(), x, y, wide)
    assert (check.verdict, check.value) == ("fail", 8)


def test_a_rule_is_named_by_its_numbers():
    assert named(None) == "own gradient"
    assert named(ASSG()).startswith("ASSG(surrogate=ATan(alpha=1.0), vanishing=0.85, rho=1.5")
    assert "kind" not in named(ASSG())
