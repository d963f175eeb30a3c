from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import Attack, Coordinate, Flips, Margin, RandomSearch, run, under_attack
from spikeproof.errors import Refusal
from tests.contracts.event_attack import assert_beats_noise, assert_fewest, plane, recordings


@pytest.mark.parametrize(("binary", "owed"), [(True, 1.1), (False, 1.5)])
def test_it_comes_near_the_optimum_on_a_plane(binary, owed):
    assert_fewest(Coordinate(400, 1), binary=binary, owed=owed)


@pytest.mark.parametrize("binary", [True, False])
def test_it_beats_as_many_random_draws(binary):
    assert_beats_noise(Coordinate(300, 2), RandomSearch(300), Flips(4, binary))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("starts", [1, 3, 10])
def test_every_query_is_spent_within_the_budget_and_none_asks_for_a_gradient(binary, starts):
    x, _ = recordings(4, binary=binary)
    y = torch.zeros(4, dtype=torch.int64)
    model, seen = plane(0, x[:1], 10**9), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    threat = Flips(3, binary)
    with under_attack(model):
        attack = Attack(Coordinate(50, starts), Margin())
        found = run(attack, model, x, y, threat, ids=torch.arange(4))
    assert found.forwards.tolist() == [50] * 4
    assert not found.backwards.any()
    assert all(threat.admits(tried, x).all() for tried in seen)
    assert torch.equal(seen[0], x)
    sizes = torch.stack([threat.size(tried, x) for tried in seen[1:]])
    assert sizes.amax() == 3, "the budget is never used up"
    assert (sizes == 1).any(0).all(), "no search begins at the clean frames"


def test_a_used_up_budget_is_spent_anew():
    x, _ = recordings(1, binary=True)
    y, model, seen = torch.zeros(1, dtype=torch.int64), plane(1, x, 10**9), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    with under_attack(model):
        run(Attack(Coordinate(400, 1), Margin()), model, x, y, Flips(4), ids=torch.arange(1))
    margins = torch.stack([(tried.flatten() * model.weight).sum() for tried in seen])
    full = [i for i, tried in enumerate(seen) if (tried != x).sum() == 4]
    assert margins[full[-1]] > margins[full[0]], "four flips once found stay as they are"
    changed = torch.stack([(tried != x).flatten() for tried in seen]).any(0)
    assert changed.sum() > 40, "always the same places"


def test_it_asks_at_least_once():
    for wrong in ({"queries": 0}, {"starts": 0}):
        with pytest.raises(Refusal, match="asks at least once"):
            Coordinate(**wrong)


@pytest.mark.parametrize("share", [float("nan"), -1.0, 5.0])
def test_it_changes_no_more_than_all_of_the_budget(share):
    with pytest.raises(Refusal, match=r"share is .* from 0 to 1"):
        Coordinate(share=share)
