from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import L2, Linf
from spikeproof.errors import Refusal
from spikeproof.evaluate import judge
from spikeproof.evaluate._judge import taken_for
from spikeproof.models import MLP, Setting, build
from spikeproof.spiking import Poisson, drawing_from


class Witness(nn.Module):
    """Answers class 1 where the first pixel is above one half, and notes who asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x):
        assert x.dtype == torch.float32
        self.asked.append(len(x))
        first = x.flatten(1)[:, 0]
        return torch.stack([torch.full_like(first, 0.5), first], 1)


X = torch.tensor([[0.4, 0.5], [0.4, 0.5], [0.4, 0.5], [0.4, 0.5], [0.4, 0.5]])
Y = torch.zeros(5, dtype=torch.int64)


def moved(*firsts):
    x = X.clone()
    x[:, 0] = torch.tensor(firsts)
    return x


def test_what_counts_is_admissible_finite_and_wrong():
    x_adv = moved(0.55, 0.61, 0.45, 0.5, float("nan"))
    found = judge(Witness(), x_adv, X, Y, Linf(0.2), batch=2)
    assert found.admissible.tolist() == [True, False, True, True, False]
    assert found.finite.tolist() == [True, True, True, True, False]
    assert found.fooled.tolist() == [True, True, False, True, True]  # a tie is an error
    assert found.broken.tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("side", [-1, 1])
def test_the_budget_holds_on_both_sides_and_forgives_rounding_only(side):
    eps, x = 0.1, torch.full((1, 4), 0.5)
    for factor, lawful in ((1 + 1e-6, True), (1 + 1e-4, False)):
        found = judge(Witness(), x + side * eps * factor, x, Y[:1], Linf(eps), batch=1)
        assert found.admissible.tolist() == [lawful]


def test_outside_the_range_is_outside_the_threat():
    x = torch.tensor([[0.99, 0.0]])
    found = judge(Witness(), x + 0.05, x, Y[:1], L2(1.0), batch=1)
    assert found.fooled.item()
    assert not found.broken.item()


def test_every_pass_has_the_size_that_was_asked_for():
    for batch, sizes in ((1, [1] * 5), (2, [2] * 3), (5, [5]), (64, [64])):
        witness = Witness()
        found = judge(witness, moved(0.55, 0.4, 0.55, 0.4, 0.55), X, Y, Linf(0.2), batch=batch)
        assert found.fooled.tolist() == [True, False, True, False, True]
        assert witness.asked == sizes


def test_nobody_is_judged_by_nobody():
    witness = Witness()
    found = judge(witness, X[:0], X[:0], Y[:0], Linf(0.2), batch=1)
    assert found.broken.shape == (0,)
    assert witness.asked == []


def test_pixels_that_are_no_numbers_fool_a_spiking_net_and_not_the_judge():
    model = build(MLP((16,)), Setting(channels=1, size=8, T=4), 0).eval()
    x = torch.full((1, 1, 8, 8), 0.5)
    with torch.no_grad():
        silent = model(x * torch.nan)
    assert silent.isfinite().all()  # NaN >= theta is false: no spike, a finite answer
    y = 1 - silent.argmax(1).clamp(max=1)
    found = judge(model, x * torch.nan, x, y, Linf(0.1), batch=1)
    assert found.fooled.item()
    assert not found.broken.item()


def test_another_shape_is_refused():
    with pytest.raises(Refusal, match=r"shape \(5, 3\)"):
        judge(Witness(), torch.zeros(5, 3), X, Y, Linf(0.2), batch=1)


def test_noise_is_put_to_the_vote_and_the_vote_repeats():
    setting = Setting(channels=1, size=8, T=4, encoder=Poisson())
    model = drawing_from(build(MLP((16,)), setting, 0).eval(), torch.Generator().manual_seed(1))
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(6, dtype=torch.int64)
    first = judge(model, x, x, y, Linf(0.1), batch=1)
    again = judge(model, x.flip(0), x.flip(0), y, Linf(0.1), batch=4)
    assert first.fooled.tolist() == again.fooled.flip(0).tolist()


class Says(nn.Module):
    def forward(self, x):
        return x


def test_a_sample_is_taken_for_the_first_class_beside_its_label():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 4.0]])
    assert taken_for(Says(), logits, torch.tensor([1, 0, 1])).tolist() == [0, 1, 2]


def test_noisy_answers_are_put_to_the_vote_too():
    setting = Setting(channels=1, size=8, T=4, encoder=Poisson())
    model = drawing_from(build(MLP((16,)), setting, 0).eval(), torch.Generator().manual_seed(1))
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6)
    said = taken_for(model, x, y)
    assert not (said == y).any()
    assert taken_for(model, x.flip(0), y.flip(0)).tolist() == said.flip(0).tolist()
