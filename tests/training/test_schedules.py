from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.training import SGD, Constant, Cosine, Plan, Steps, factor


def plan(epochs: int, schedule: Constant | Cosine | Steps, warmup: float = 0.0) -> Plan:
    return Plan(epochs, batch=1, optimizer=SGD(1.0), schedule=schedule, warmup=warmup)


def torch_rates(steps: int, build) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants to see optimizer.step(), which changes nothing
        schedule = build(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            schedule.step()
    return rates


@given(st.integers(1, 6), st.integers(1, 9), st.floats(0, 1))
def test_cosine_equals_torchs_own(epochs: int, per_epoch: int, final: float):
    steps = epochs * per_epoch
    expected = torch_rates(
        steps, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps, eta_min=final)
    )
    got = [factor(plan(epochs, Cosine(final)), k, per_epoch) for k in range(steps)]
    assert got == pytest.approx(expected, abs=1e-9)


def test_steps_equal_torchs_own():
    expected = torch_rates(
        20, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [8, 12], gamma=0.5)
    )
    got = [factor(plan(5, Steps((2, 3), factor=0.5)), k, per_epoch=4) for k in range(20)]
    assert got == pytest.approx(expected)


def test_a_milestone_may_fall_inside_an_epoch():
    rates = [factor(plan(1, Steps((0.5,))), k, per_epoch=4) for k in range(4)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1])


def test_warmup_rises_in_equal_steps_to_the_schedule():
    rates = [factor(plan(2, Constant(), warmup=0.75), k, per_epoch=4) for k in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


@given(st.integers(1, 5), st.integers(1, 8), st.floats(0, 0.99), st.floats(0, 1))
def test_cosine_after_warmup_starts_full_and_never_rises(epochs, per_epoch, share, final):
    chosen = plan(epochs, Cosine(final), warmup=share * epochs)
    warm = round(chosen.warmup * per_epoch)
    rates = [factor(chosen, k, per_epoch) for k in range(epochs * per_epoch)]
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert all(0 < rate <= 1 for rate in rates)
    if warm < len(rates):
        assert rates[warm] == 1
        last = (len(rates) - 1 - warm) / (len(rates) - warm)
        assert rates[-1] == pytest.approx(final + (1 - final) * math.cos(math.pi * last / 2) ** 2)
