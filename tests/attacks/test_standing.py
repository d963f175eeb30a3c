from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from spikeproof.attacks import (
    CE,
    SAPGD,
    Attack,
    Chance,
    Linf,
    Margin,
    Standing,
    Victim,
    run,
)
from spikeproof.attacks._event_threats import Flips
from spikeproof.models import CNN, MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import ASSG, PDSG, Gates, Poisson, drawing_from
from tests.contracts.attack import COUNT, samples, small_network


class Above(nn.Module):
    """Errs on class 0 where the first value is above a half; its loss rises with it."""

    def forward(self, x):
        height = x.flatten(1)[:, 0] - 0.5
        return torch.stack([-height, height], 1)


def standing(values, eps=0.5, victim=None, chance=None):
    x = torch.full((len(values), 1, 1, 2), 0.4)
    s = Standing(
        Victim(victim or Above()),
        x,
        torch.zeros(len(x), dtype=torch.int64),
        Linf(eps),
        Margin(),
        torch.arange(len(x)),
        chance,
    )
    s.tried = x.clone()
    s.tried[:, 0, 0, 0] = torch.tensor(values)
    return s


def test_whoever_errs_leaves_with_all_that_is_his():
    s = standing([0.1, 0.6, 0.2, 0.7])
    s.memory = torch.tensor([10, 11, 12, 13])
    s.note = "kept"
    logits = s.look(s.tried)
    assert len(s) == 2
    assert logits.shape == (2, 2)
    assert s.memory.tolist() == [10, 12]
    assert s.seeds.tolist() == [0, 2]
    assert s.tried[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2])
    assert s.note == "kept"
    slope, loss = s.gradient(s.tried)
    assert slope.shape == s.x.shape
    assert loss.tolist() == pytest.approx([-0.8, -0.6])
    s.look(s.tried + 0.31)
    assert s.memory.tolist() == [10]
    out = s.outcome()
    assert out.fallen.tolist() == [False, True, True, True]
    assert out.at.tolist() == [0, 1, 3, 1]
    assert out.forwards.tolist() == [3, 1, 3, 1]
    assert out.backwards.tolist() == [1, 0, 1, 0]
    assert out.x_adv[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.6, 0.51, 0.7])


def test_an_error_outside_the_budget_is_none():
    s = standing([0.6, 0.41, torch.nan], eps=0.15)
    s.look(s.tried)
    assert len(s) == 3
    assert not s.outcome().fallen.any()


def test_a_tie_is_an_error():
    s = standing([0.5, 0.4])
    s.look(s.tried)
    assert s.outcome().fallen.tolist() == [True, False]


def test_nobody_left_is_no_trouble():
    s = standing([0.9, 0.9])
    assert s.look(s.tried).shape == (0, 2)
    assert list(s.steps(5)) == []
    assert s.look(s.x).shape == (0, 1)
    slope, loss = s.gradient(s.x)
    assert slope.shape == (0, 1, 1, 2)
    assert loss.shape == (0,)
    assert s.uniform((3,)).shape == (0, 3)
    assert [None for _ in s.aims(3)] == []
    assert s.outcome().forwards.tolist() == [1, 1]


def test_steps_end_when_the_last_one_falls():
    s, taken = standing([0.9]), []
    for step in s.steps(10):
        taken.append(step)
        if step == 2:
            s.look(s.tried)
    assert taken == [0, 1, 2]


def test_a_gradient_that_is_no_number_becomes_no_direction():
    class Cliff(nn.Module):
        def forward(self, x):
            rows = x.flatten(1)
            root = (rows[:, 0] - rows[:, 0]).abs().sqrt() + rows[:, 1]  # 0 * inf backwards
            return torch.stack([1 - root, 0 * root], 1)

    s = standing([0.1], victim=Cliff())
    slope, _ = s.gradient(s.x)
    assert slope.flatten().tolist() == pytest.approx([0.0, 1.0])


def test_aims_are_the_best_wrong_classes_without_the_label():
    class Ranked(nn.Module):
        def forward(self, x):
            return torch.tensor([[9.0, 1.0, 3.0, 2.0]]).expand(len(x), 4)

    s = standing([0.1, 0.2], victim=Ranked())
    assert [s.target.tolist() for _ in s.aims(2)] == [[2, 2], [3, 3]]
    assert [s.target.tolist() for _ in s.aims(99)] == [[2, 2], [3, 3], [1, 1]]
    s = standing([0.1], victim=Ranked())
    assert [s.target.tolist() for _ in s.aims(0)] == [[0]]
    assert s.outcome().forwards.tolist() == [0]


def test_trials_are_counted_and_judge_nobody():
    s = standing([0.1, 0.2, 0.3])
    rows = torch.tensor([0, 2, 2])
    s.probe(torch.full((3, 1, 1, 2), 0.9), rows)
    assert len(s) == 3
    assert s.outcome().forwards.tolist() == [1, 0, 2]
    s.keep(torch.tensor([2]))
    assert s.tried[:, 0, 0, 0].tolist() == pytest.approx([0.3])


def test_an_adaptive_rule_remembers_those_who_stand():
    model, (x, y) = small_network(), samples()
    victim = Victim(model, ASSG())
    s = Standing(victim, x, y, Linf(0.1), CE(), torch.arange(COUNT))
    s.gradient(s.x)
    remembered = [
        m.memory.means[0].shape[1] for m in victim.source.modules() if hasattr(m, "memory")
    ]
    assert set(remembered) == {len(s)}
    assert len(s) < COUNT
    Standing(victim, x, y, Linf(0.1), CE(), torch.arange(COUNT))
    assert all(m.memory.means is None for m in victim.source.modules() if hasattr(m, "memory"))


def test_a_threat_that_is_no_ball_says_so():
    x = torch.zeros(1, 2, 1, 2, 2)
    s = Standing(Victim(Above()), x, torch.tensor([0]), Flips(3), CE(), torch.tensor([1]))
    with pytest.raises(TypeError, match="no norm ball"):
        _ = s.ball


def noisy():
    model = build(MLP((8,)), Setting(channels=1, size=8, T=4, encoder=Poisson())).eval()
    return drawing_from(model, generator(1, "noise"))


def test_a_gradient_is_the_mean_over_its_draws():
    model, (x, y) = noisy(), samples()
    right = slice(0, 4)
    victim = Victim(model)
    s = Standing(
        victim, x[right], y[right], Linf(0.0), CE(), torch.arange(4), Chance(8, 1000, seed=3)
    )
    s._victim.redraw = lambda *of: seeds.extend(of) or Victim.redraw(victim, *of)
    seeds = []
    s.x = s.clean
    slope, losses = s.gradient(s.x)
    assert len(set(seeds[:8])) == 8, "the same noise twice"
    index = s.seeds
    parts = []
    for seed in seeds[:8]:
        Victim.redraw(victim, seed)
        parts.append(
            victim.gradient(
                x[right][index],
                lambda z: CE()(z, y[right][index], y[right][index]),
                per_step=False,
            )
        )
    torch.testing.assert_close(slope, torch.stack([p[2] for p in parts]).mean(0))
    torch.testing.assert_close(losses, torch.stack([p[1] for p in parts]).mean(0))
    assert (s.outcome().backwards == 8).all()


def test_a_memory_takes_one_step_however_many_draws():
    model, (x, y) = noisy(), samples()
    seen = []
    for draws in (1, 5):
        victim = Victim(model, ASSG())
        chance = Chance(draws, 1, seed=3)
        s = Standing(victim, x, y, Linf(0.0), CE(), torch.arange(COUNT), chance)
        s._judge = lambda x, logits: torch.arange(len(x))
        s.gradient(s.x)
        memories = [m.memory for m in victim.source.modules() if hasattr(m, "memory")]
        assert not any(memory.frozen for memory in memories)
        seen.append(memories[0].means[0])
    assert torch.equal(*seen)


@pytest.mark.parametrize("rule", [None, ASSG(), PDSG()], ids=str)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("most", [7, 64])
def test_draws_and_votes_share_a_batch_and_find_the_same(rule, gated, most):
    model, (x, _) = noisy(), samples()
    if gated:
        setting = Setting(channels=1, size=8, T=4, gates=Gates(rate=0.8))
        still = build(CNN((4,), 8), setting, 1).eval()
        still(x)  # rates take their shape
        model = drawing_from(still, generator(1, "noise"))
    y = sum(model(x).softmax(1) for _ in range(16)).argmax(1)
    attack = Attack(SAPGD(3), CE(), rule, draws=5, votes=9)
    one, other = (
        run(attack, model, x, y, Linf(0.1), ids=torch.arange(COUNT), most=rows)
        for rows in (0, most)
    )
    for field in dataclasses.fields(one):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
    assert int(one.forwards.max()) > 1 + attack.votes  # somebody met more than one query


class Coin(nn.Module):
    """Errs in a given share of its passes, in turn."""

    def __init__(self, pattern):
        super().__init__()
        self.pattern, self.calls = pattern, 0

    def forward(self, x):
        wrong = self.pattern[self.calls % len(self.pattern)]
        self.calls += 1
        return torch.tensor([[0.0, 1.0] if wrong else [1.0, 0.0]]).expand(len(x), 2)


@pytest.mark.parametrize(
    ("votes", "falls"), [([1, 1, 1, 0, 0], True), ([1, 1, 0, 0, 0], False), ([1, 1, 0, 0], False)]
)
def test_most_of_the_votes_decide(votes, falls):
    s = standing([0.1, 0.2], victim=Coin([1, *votes]), chance=Chance(1, len(votes)))
    s.look(s.tried)
    out = s.outcome()
    assert out.fallen.tolist() == [falls, falls]
    assert out.forwards.tolist() == [1 + len(votes)] * 2
