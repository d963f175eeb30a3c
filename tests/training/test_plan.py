from __future__ import annotations

import math

import pytest

from spikeproof.errors import Refusal
from spikeproof.training import SGD, Adam, AdamW, Constant, Cosine, Plan, Steps

NONSENSE = {
    "epochs": [0, -1, 1.5, 10**30],
    "batch": [0, 2.0, 10**30],
    "seed": [-1, 2**63, 0.5],
    "save_every": [0],
    "log_every": [0],
    "warmup": [-0.1, 3.0, math.nan],
    "clip": [-1.0, math.inf, math.nan],
    "precision": ["half", "float64"],
}


def test_defaults_are_the_quiet_choice():
    plan = Plan(epochs=3, batch=8, optimizer=SGD(0.1))
    assert (plan.schedule, plan.warmup, plan.clip, plan.precision) == (Constant(), 0, 0, "float32")


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values]
)
def test_nonsense_is_refused_with_its_name_and_value(name: str, value: object):
    plan = Plan(epochs=3, batch=8, optimizer=SGD(0.1))
    object.__setattr__(plan, name, value)  # past the types, which only tests check
    with pytest.raises(Refusal, match=rf"^{name} is .*; it must be .*; change {name}") as refusal:
        plan.__post_init__()
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize("lr", [0.0, -0.1, math.inf, math.nan, 1e300])
@pytest.mark.parametrize("rule", [SGD, Adam, AdamW])
def test_a_learning_rate_is_above_zero(rule: type, lr: float):
    with pytest.raises(Refusal, match=r"optimizer\.lr is"):
        rule(lr)


@pytest.mark.parametrize("rule", [SGD, Adam, AdamW])
def test_weight_decay_is_a_share(rule: type):
    assert rule(0.1, weight_decay=5e-4).weight_decay == 5e-4
    with pytest.raises(Refusal, match=r"optimizer\.weight_decay is -0\.1"):
        rule(0.1, weight_decay=-0.1)


def test_momentum_and_betas_are_below_one():
    assert SGD(0.1, momentum=0.9, nesterov=True).nesterov
    for momentum in (1.0, -0.5, math.nan):
        with pytest.raises(Refusal, match=r"optimizer\.momentum"):
            SGD(0.1, momentum=momentum)
    with pytest.raises(Refusal, match="above 0 with nesterov"):
        SGD(0.1, nesterov=True)
    for rule in (Adam, AdamW):
        with pytest.raises(Refusal, match=r"optimizer\.betas"):
            rule(0.1, betas=(0.9, 1.0))


def test_schedules_refuse_what_has_no_meaning():
    for final in (-0.1, 1.1, math.nan):
        with pytest.raises(Refusal, match=r"schedule\.final"):
            Cosine(final)
    for milestones in (
        (),
        (2.0, 1.0),
        (0.0, 1.0),
        (1.0, 1.0),
        (1.0, math.nan),
        (1e308,),
        tuple(range(1, 102)),
    ):
        with pytest.raises(Refusal, match=r"schedule\.milestones"):
            Steps(milestones)
    for factor in (0.0, 1e200, math.nan):
        with pytest.raises(Refusal, match=r"schedule\.factor"):
            Steps((1.0,), factor=factor)


def test_unions_are_told_apart_by_kind():
    kinds = [each.kind for each in (SGD(0.1), Adam(0.1), AdamW(0.1), Constant(), Cosine())]
    assert [*kinds, Steps((1,)).kind] == ["sgd", "adam", "adamw", "constant", "cosine", "steps"]
