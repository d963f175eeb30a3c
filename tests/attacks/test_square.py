from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import L2, Attack, Linf, Margin, Square, Standing, StepCE, Victim, run
from spikeproof.attacks._square import _bump, _window
from spikeproof.errors import Refusal
from tests.contracts.attack import COUNT, Flat, Plane, samples, small_network


def test_a_square_shrinks_as_the_paper_says():
    share = Square(10_000)._share
    marks = [0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 6001, 8001, 9999]
    halvings = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert [share(mark) for mark in marks] == [0.8 / 2**h for h in halvings]
    assert Square(1000)._share(101) == 0.8 / 2**5


def test_a_square_lies_at_every_place_with_equal_odds():
    rows = torch.arange(6000)
    x, y = torch.zeros(len(rows), 1, 5, 4), torch.zeros_like(rows)
    s = Standing(Victim(Flat()), x, y, Linf(0.1), Margin(), rows)
    down, across = _window(s, torch.full((6000,), 3), 5, 4)
    top, left = -down[:, 0, 0, 0], -across[:, 0, 0, 0]
    places = torch.bincount(2 * top + left)
    assert len(places) == 6
    assert (places - 1000).abs().max() < 150  # five deviations


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.7)])
def test_every_question_spends_the_whole_budget(ball):
    class Seen(Flat):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    seen = []
    x = torch.full((3, 2, 8, 8), 0.5)
    y = torch.zeros(3, dtype=torch.int64)
    run(Attack(Square(40), Margin()), Seen(), x, y, ball, ids=torch.arange(3))
    for asked in seen:
        torch.testing.assert_close(ball.size(asked, x), torch.full((3,), ball.eps))
    assert len(seen) == 40
    assert len({tuple(z[0].flatten().tolist()) for z in seen}) > 30


def test_the_first_question_is_stripes():
    x, y = torch.full((3, 2, 8, 8), 0.5), torch.zeros(3, dtype=torch.int64)
    s = Standing(Victim(Flat()), x, y, Linf(0.1), Margin(), torch.arange(3))
    Square(1)(s)
    assert torch.equal(s.best, s.best[:, :, :1].expand_as(s.best))
    assert 0.3 < (s.best > x).float().mean() < 0.7


def test_a_bump_is_a_hill_beside_a_valley():
    for side in (3, 5, 9):
        bump = _bump(side, like=torch.zeros(1))
        assert bump.shape == (side, side)
        torch.testing.assert_close(bump.norm(), torch.tensor(1.0))
        assert (bump[: side // 2] > 0).all()
        assert (bump[side // 2 :] < 0).all()


@pytest.mark.parametrize("shape", [(64,), (2, 4, 1, 8, 8), (1, 3, 20)])
@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.7)])
def test_inputs_of_other_ranks_and_sides(shape, ball):
    x = torch.full((2, *shape), 0.5)
    y = torch.zeros(2, dtype=torch.int64)
    out = run(Attack(Square(20), Margin()), Flat(), x, y, ball, ids=torch.arange(2))
    assert out.x_adv.shape == x.shape
    assert out.forwards.tolist() == [20, 20]


def test_more_queries_break_more():
    model, (x, y) = small_network(), samples()
    few, many = (
        run(Attack(Square(n), Margin()), model, x, y, Linf(0.2), ids=torch.arange(COUNT))
        for n in (5, 200)
    )
    assert many.fallen.sum() > few.fallen.sum()
    assert (many.backwards == 0).all()


def test_it_works_without_any_gradient():
    class Closed(Plane):
        def forward(self, x):
            return super().forward(x.detach())

    model, x = Closed(), torch.full((2, 1, 8, 8), 0.48)
    y = model(x).argmax(1)
    out = run(Attack(Square(100), Margin()), model, x, y, Linf(0.2), ids=torch.arange(2))
    assert out.fallen.all()


def test_a_loss_per_step_is_refused():
    with pytest.raises(Refusal, match="sees no single steps"):
        Attack(Square(), StepCE())
