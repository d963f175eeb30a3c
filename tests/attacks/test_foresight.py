from __future__ import annotations

import functools

import pytest
import torch

from spikeproof.attacks import (
    L2,
    Attack,
    Linf,
    Margin,
    Outcome,
    Square,
    Standing,
    Victim,
    _foresight,
    _noise,
    run,
)
from spikeproof.attacks._foresight import Foresight, Trials
from tests.contracts.attack import Flat, samples, small_network

QUERIES, ROWS = 60, 8
BALLS = [Linf(0.06), L2(0.5)]


class Watched(Foresight):
    """Remembers how many proposals of each sample shared a batch."""

    def climb(self, queries, propose, calls):
        self.widths = []

        def watched(trials):
            self.widths.append(trials.width)
            return propose(trials)

        super().climb(queries, watched, calls)


class Tallied(torch.nn.Module):
    """Counts calls, rows, and the rows of the largest batch."""

    def __init__(self, model):
        super().__init__()
        self.model, self.batches = model, []

    def forward(self, x):
        self.batches.append(len(x))
        return self.model(x)


class Bowl(torch.nn.Module):
    """Two logits; the wrong one falls with the distance from one image, and never wins."""

    def __init__(self, middle):
        super().__init__()
        self.middle = middle

    def forward(self, x):
        away = (x - self.middle).flatten(1).norm(dim=1)
        return torch.stack([torch.zeros_like(away), -1 - away], 1)


def searched(model, ball, x, y, most=None, kind=Foresight, queries=QUERIES):
    seeds = torch.arange(100, 100 + len(y)) * 977
    given = Victim(model), x, y, ball, Margin(), seeds
    s = Standing(*given) if most is None else kind(*given, most=most)
    Square(queries)(s)
    return s


def same(found, expected):
    return all(map(torch.equal, vars(found).values(), vars(expected).values()))


@functools.cache
def right():
    """Digits that the small network gets right."""
    x, y = samples()
    rows = (small_network()(x).argmax(1) == y).nonzero().squeeze(1)[:ROWS]
    return x[rows], y[rows]


@functools.cache
def in_turn(ball):
    return searched(small_network(), ball, *right()).outcome()


@pytest.mark.parametrize("width", [1, 2, 7, 16])
@pytest.mark.parametrize("ball", BALLS)
def test_it_finds_and_counts_what_one_query_after_the_other_does(ball, width, monkeypatch):
    monkeypatch.setattr(_foresight, "_width", lambda *_: float(width))
    s = searched(small_network(), ball, *right(), 10_000, Watched)
    assert max(s.widths) == width
    assert s.widths[1] == width
    assert same(s.outcome(), in_turn(ball))
    assert 0 < in_turn(ball).fallen.sum() < ROWS


@pytest.mark.parametrize("most", [1, ROWS, 3 * ROWS + 1])
def test_what_is_found_depends_neither_on_the_room_nor_on_company(most):
    (x, y), ball = right(), BALLS[0]
    tallied = Tallied(small_network())
    assert same(searched(tallied, ball, x, y, most).outcome(), in_turn(ball))
    assert max(tallied.batches) <= max(most, ROWS)
    one = searched(small_network(), ball, x[:1], y[:1], most).outcome()
    assert same(one, Outcome(*(value[:1] for value in vars(in_turn(ball)).values())))


@pytest.mark.parametrize("queries", [1, 2, 3, 40])
def test_who_stands_is_asked_every_query_and_who_falls_no_more(queries):
    found = searched(small_network(), BALLS[0], *right(), 64, queries=queries).outcome()
    assert (found.forwards[~found.fallen] == queries).all()
    assert torch.equal(found.forwards[found.fallen], found.at[found.fallen])
    assert (found.backwards == 0).all()


def test_a_batch_widens_where_nothing_is_kept():
    x, y = torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, dtype=torch.int64)
    start = searched(Flat(), BALLS[0], x, y, 64, queries=1).best
    model = Tallied(Bowl(start))
    s = searched(model, BALLS[0], x, y, 64, Watched, queries=201)
    assert s.widths == [*range(1, 17), 16, 16, 16, 16]  # 136 + 64 = 200
    assert sum(model.batches) < 201  # what the best image already is needs no answer
    assert s.outcome().forwards.tolist() == [201]


def test_a_batch_stays_narrow_where_everything_is_kept():
    x, y = torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, dtype=torch.int64)
    s = searched(Flat(), L2(0.7), x, y, 64, Watched, queries=50)
    assert s.widths == [1] * 49
    assert same(s.outcome(), searched(Flat(), L2(0.7), x, y, queries=50).outcome())


def test_a_trial_draws_the_noise_of_its_turn():
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    seeds = torch.tensor([5, -9, 2**62])
    s = Foresight(Victim(Flat()), x, y, Linf(0.1), Margin(), seeds, most=64)
    s.best, s.turn = s.clean, torch.tensor([0, 4, 7])
    trials = Trials(s, 2, 3, 1)
    first, second = trials.uniform((5,)), trials.uniform((2, 2))
    for row, turn in enumerate([0, 1, 4, 5, 7, 8]):
        seed = seeds[row // 2 : row // 2 + 1]
        assert torch.equal(first[row], _noise.uniform(seed, 1 + 3 * turn + 1, (5,))[0])
        assert torch.equal(second[row], _noise.uniform(seed, 1 + 3 * turn + 2, (2, 2))[0])


def test_a_run_with_room_finds_the_same_in_fewer_batches():
    model, attack = Tallied(small_network()), Attack(Square(40), Margin(), restarts=2)
    x, y = right()
    given = attack, model, x[:3], y[:3], Linf(0.03)
    expected = run(*given, ids=torch.arange(3))
    alone = len(model.batches)
    assert same(run(*given, ids=torch.arange(3), most=64), expected)
    assert len(model.batches) - alone < 0.7 * alone
