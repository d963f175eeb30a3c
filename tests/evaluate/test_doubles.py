"""The seven planted defects are caught by their named checks, and an honest network is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikeproof import data, models, seeding
from spikeproof.attacks import PGD, Attack, Linf, correct, fingerprint, run, under_attack
from spikeproof.errors import Refusal
from spikeproof.evaluate._doubles import (
    PLANTED,
    NaNGuard,
    Planted,
    StateNotReset,
    self_test,
)
from spikeproof.evaluate._probes import probe
from spikeproof.spiking import ASSG, IF, seen_through

ROOT = Path(__file__).resolve().parents[2]
COUNT = 24
EPS = 0.2
BAD = ("flag", "fail")


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def honest(digits):
    """A small network trained without a defence, and held-out images."""
    x, y = digits.train.batch(torch.arange(len(digits.train)))
    model = models.build(models.CNN((8, 16), 32), models.Setting(1, 8, 10, 4, IF()))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    order = seeding.generator(0, "order")
    for _ in range(10):
        for index in torch.randperm(len(x), generator=order).split(128):
            loss = functional.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), *digits.test.batch(torch.arange(COUNT))


def doubts(checks):
    return {check.id for check in checks if check.verdict in BAD}


@pytest.mark.slow
def test_an_honest_network_raises_no_doubt_and_falls(honest):
    model, x, y = honest
    checks = {check.id: check for check in probe(model, x, y, Linf(EPS))}
    assert {id: check for id, check in checks.items() if check.verdict in BAD} == {}
    made = [id for id, check in checks.items() if check.verdict == "pass"]
    assert len(made) >= 19
    with under_attack(model):
        outcome = run(Attack(PGD(10)), model, x, y, Linf(1.0), ids=torch.arange(COUNT))
    assert bool(outcome.fallen.all())


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_defect_is_caught_by_its_checks(planted, honest):
    model, x, y = honest
    assert set(planted.caught) <= doubts(probe(planted.make(model), x, y, Linf(EPS)))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_double_answers_clean_inputs_as_the_network_does(planted, honest):
    model, x, y = honest
    with torch.no_grad(), seeding.isolated(0, "dropout"):
        right = correct(model(x), y)
        double = planted.make(model).eval()
        same = correct(double(x), y) == right
    assert same.double().mean() >= (0.6 if planted.name == "dropout left on" else 0.95)


def test_the_needle_withstands_other_rules_but_the_analog_twin(honest):
    model, x, _ = honest
    needle = PLANTED[0].make(model).eval()
    for parameter in needle.parameters():
        parameter.requires_grad_(False)
    asked = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(seen_through(needle, ASSG())(asked).square().sum(), asked)
    assert not gradient.any()


def test_the_state_of_a_batch_of_another_size_is_not_taken(honest):
    model, x, _ = honest
    double = StateNotReset(model).eval()
    with torch.no_grad():
        double(x)
        assert torch.equal(double(x[:3]), model(x[:3]))
        assert not torch.equal(double(x[:3]), model(x[:3]))


def test_a_network_without_state_cannot_keep_it():
    with pytest.raises(Refusal, match="hands out no state"):
        StateNotReset(nn.Flatten())(torch.zeros(1, 4))


def test_the_self_test_fails_where_a_defect_slips_through(honest):
    model, x, y = honest
    before = fingerprint(model)
    guard = Planted("guard", NaNGuard, ("C4",))
    other = Planted("other", NaNGuard, ("C4", "C2"))
    assert self_test(model, x[:4], y[:4], Linf(EPS), planted=(guard,)).verdict == "pass"
    check = self_test(model, x[:4], y[:4], Linf(EPS), planted=(other,))
    assert (check.id, check.value, check.verdict) == ("C27", 1, "fail")
    assert check.detail == "other passes C2"
    assert fingerprint(model) == before


def test_the_page_lists_what_is_planted_and_what_catches_it():
    page = (ROOT / "docs" / "flags.md").read_text()
    for planted in PLANTED:
        row = next(line for line in page.splitlines() if f"| `{planted.make.__name__}` |" in line)
        assert row.endswith(f"| {', '.join(planted.caught)} |")
