from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import CE, Flips, Linf, Standing, Victim, margins
from spikeproof.attacks._flip_trials import best_changes, flips, lively, ranked, tried, undone
from spikeproof.seeding import generator
from tests.contracts.event_attack import plane, recordings, small_network


def standing(model, x, y, threat=None):
    threat = threat or Flips(1000, binary=True)
    return Standing(Victim(model), x, y, threat, CE(), torch.arange(len(y)))


def test_ranks_are_those_of_a_stable_sort():
    values = torch.tensor([[1.0, 3.0, 3.0, -torch.inf], [0.0, 0.0, 0.0, 0.0]])
    assert ranked(values).tolist() == [[2, 0, 1, 3], [0, 1, 2, 3]]


def test_only_a_gradient_of_nothing_is_replaced():
    gradient = torch.tensor([[0.0, 0.0], [0.0, 2.0], [torch.nan, 0.0], [torch.inf, 1.0]])
    noise = torch.full((4, 2), 0.5)
    assert lively(gradient, noise).tolist() == [[0.5, 0.5], [0, 2], [0.5, 0.5], [0, 1]]


def test_the_best_changes_gain_and_are_at_most_k():
    slope = torch.tensor([[3.0, -2.0, 1.0, 5.0], [1.0, 1.0, 1.0, 1.0]])
    change = torch.tensor([[1.0, -1.0, -1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert best_changes(slope, change, 3).tolist() == [[1, -1, 0, 0], [1, 1, 1, 0]]
    assert best_changes(slope, change, torch.tensor([1, 0])).tolist() == [[1, 0, 0, 0], [0] * 4]


def test_trials_of_several_samples_give_the_margins_of_each_alone_and_are_counted():
    x, y = recordings(5, binary=True)
    model = small_network()
    s = standing(model, x, y)
    rows = torch.tensor([0, 3, 3, 1, 0, 3, 4])
    places = torch.tensor([5, 0, 9, 1, 100, 17, 31])
    change = 1 - 2 * x.flatten(1)[rows, places]
    together = tried(s, x, rows, places, change, batch=3)
    for row, place, margin in zip(rows, places, together, strict=True):
        one = x[row : row + 1].clone()
        one.view(-1)[place] = 1 - one.view(-1)[place]
        assert torch.equal(margins(model(one), y[row : row + 1]), margin[None])
    assert s.outcome().forwards.tolist() == [2, 1, 0, 3, 1]
    assert len(s) == 5, "a trial is not judged"


def test_what_is_given_up_leaves_with_all_it_has():
    x, y = recordings(5, binary=True)
    s = standing(small_network(), x, y)
    s.memory = torch.arange(5)
    s.keep(torch.tensor([3, 0]))
    assert s.memory.tolist() == [3, 0]
    assert torch.equal(s.x, x[[3, 0]])
    s.probe(s.x[:1], torch.tensor([0]))
    assert s.outcome().forwards.tolist() == [0, 0, 0, 1, 0]
    assert not s.outcome().fallen.any()


def test_all_changes_that_are_not_needed_are_undone_on_a_plane():
    x, _ = recordings(1, binary=True)
    y = torch.tensor([0])
    victim = plane(0, x, 300)
    s = standing(victim, x, y)
    up = flips(s).uphill(victim.weight.reshape(x.shape), x)
    grown = x + up
    gains = (victim.weight * up.flatten())[None]
    least = undone(s, grown, torch.tensor([True]), gains, batch=64)
    assert margins(victim(least), y) >= 0
    best = gains[0].sort(descending=True).values
    fewest = int((best.cumsum(0) < 299.5 / 128).sum()) + 1
    assert int((least != x).sum()) == fewest
    for place in (least != x).flatten().nonzero():
        one = least.clone().flatten()
        one[place] = x.flatten()[place]
        assert margins(victim(one.reshape(x.shape)), y) < 0
    assert torch.equal(undone(s, grown, torch.tensor([False]), gains, batch=64), grown)


@pytest.mark.parametrize("binary", [True, False])
def test_no_change_that_is_left_can_be_undone_alone(binary):
    x, _ = recordings(6, binary=binary)
    model = small_network()
    grown = x.flip(0) + (x if not binary else 0)
    y = (model(grown).argmax(1) + 1) % 4  # every sample is fooled at the grown point
    s = standing(model, x, y)
    assert (margins(model(grown), y) >= 0).all()
    worth = torch.zeros(6, x[0].numel())
    least = undone(s, grown, torch.ones(6, dtype=torch.bool), worth, batch=64)
    assert (margins(model(least), y) >= 0).all()
    assert ((least - x).abs() <= (grown - x).abs()).all()
    assert ((least - x) * (grown - x) >= 0).all(), "changes are undone and none is made"
    assert (least != grown).flatten(1).any(1).any()
    for row, place in (least != x).flatten(1).nonzero().tolist():
        one = least[row : row + 1].clone()
        back = (x - least)[row].flatten()[place].sign()
        one.view(-1)[place] += back
        assert margins(model(one), y[row : row + 1]) < 0


def test_reducing_depends_neither_on_the_batch_nor_on_company():
    x, _ = recordings(6, binary=True)
    model = small_network()
    grown = x.flip(0)
    y = (model(grown).argmax(1) + 1) % 4
    worth = torch.rand(6, x[0].numel(), generator=generator(0, "worth"))
    fooled = torch.tensor([True, True, False, True, True, True])
    whole = undone(standing(model, x, y), grown, fooled, worth, batch=64)
    assert torch.equal(whole[2], grown[2])
    for rows in (torch.tensor([3]), torch.tensor([5, 0, 2])):
        s = standing(model, x[rows], y[rows])
        part = undone(s, grown[rows], fooled[rows], worth[rows], batch=1)
        assert torch.equal(part, whole[rows])


def test_a_search_for_events_needs_their_threat():
    x, y = recordings(1, binary=True)
    with pytest.raises(TypeError, match="count events"):
        flips(standing(nn.Identity(), x, y, Linf(0.1)))
