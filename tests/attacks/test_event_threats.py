from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spikeproof.attacks import (
    FAB,
    PGD,
    Attack,
    Flips,
    Linf,
    Margin,
    RelaxedLinf,
    Retiming,
    Square,
    run,
    under_attack,
)
from spikeproof.attacks._noise import uniform
from spikeproof.errors import Refusal
from tests.contracts.event_attack import attacked, recordings, small_network
from tests.oracles import event_feasibility as oracle

SHAPE = (3, 4, 2, 1, 2)  # samples, steps, polarities, height, width


def frames(high):
    return hnp.arrays(np.float32, SHAPE, elements=st.integers(0, high).map(float)).map(
        torch.from_numpy
    )


wishes = hnp.arrays(np.float32, SHAPE, elements=st.floats(-3, 5, width=32)).map(torch.from_numpy)
limits = st.sampled_from(["binf", "b1", "b0"])
seeds = st.integers(0, 1000)


def noise(seed):
    return lambda shape: uniform(torch.arange(SHAPE[0]) + seed, 1, shape)


def realised(threat, x_adv, x):
    """What the oracle counts for each sample; infinite where it finds no explanation."""
    counted = []
    for new, old in zip(x_adv.numpy(), x.numpy(), strict=True):
        if isinstance(threat, Flips):
            size = oracle.changes(new, old, threat.binary)
        else:
            found = oracle.retimed(new, old)
            size = None if found is None else found[threat.limits]
        counted.append(math.inf if size is None else size)
    return torch.tensor(counted)


def nearest_by_hand(threat, wish, x):
    """The k best events, one after the other, each the one that brings the frames nearest."""
    out = x.clone().double()
    wish = wish.double().clone()
    for b in range(len(x)):
        flat, aim = out[b].reshape(-1), wish[b].reshape(-1)
        for _ in range(threat.k):
            gains = []
            for i in range(len(flat)):
                step = 1.0 if aim[i] > flat[i] else -1.0
                new = flat[i] + step
                if not 0 <= new <= threat.high:
                    continue
                gains.append((float((aim[i] - flat[i]) ** 2 - (aim[i] - new) ** 2), -i, step))
            if not gains or max(gains)[0] <= 0:
                break
            _, i, step = max(gains)
            flat[-i] += step
    return out


@given(wishes, st.booleans(), st.integers(0, 20), st.data())
def test_flips_project_to_the_nearest_feasible_frames(wish, binary, k, data):
    x = data.draw(frames(1 if binary else 3))
    threat = Flips(k, binary)
    x_adv = threat.project(wish, x)
    assert (realised(threat, x_adv, x) <= k).all()
    assert threat.admits(x_adv, x).all()
    assert torch.equal(threat.project(x_adv, x), x_adv)
    by_hand = nearest_by_hand(threat, wish, x)
    distance = (x_adv.double() - wish.double()).square().flatten(1).sum(1)
    torch.testing.assert_close(
        distance, (by_hand - wish.double()).square().flatten(1).sum(1), atol=1e-9, rtol=1e-6
    )


@given(frames(2), limits, st.integers(0, 6), wishes)
def test_retiming_projects_to_feasible_frames(x, limit, budget, wish):
    threat = Retiming(budget, limit)
    x_adv = threat.project(wish, x)
    assert (realised(threat, x_adv, x) <= budget).all()
    assert threat.admits(x_adv, x).all()
    assert torch.equal(threat.project(x_adv, x), x_adv)
    assert ((x_adv - wish).square().sum() - (x - wish).square().sum()) <= 1e-3


@given(frames(2), frames(2), st.booleans(), st.integers(0, 8), st.data())
def test_flips_admit_what_the_oracle_counts(x, x_adv, near, k, data):
    if near:
        x_adv = Flips(k + 1, binary=False).random(x, noise(data.draw(seeds)))
    threat = Flips(k, binary=False)
    counted = realised(threat, x_adv, x)
    assert torch.equal(threat.admits(x_adv, x), counted <= k)
    assert torch.equal(threat.size(x_adv, x).double(), counted.double())


@given(frames(2), limits, st.integers(0, 6), seeds, st.booleans())
def test_retiming_admits_what_trying_all_matchings_admits(x, limit, budget, seed, honest):
    x_adv = x[:, torch.tensor([2, 0, 3, 1])].contiguous()
    if honest:
        x_adv = Retiming(budget + 1, limit).random(x, noise(seed))
    else:
        x_adv[0, 0, 0, 0, 0] += seed % 2  # an event from nowhere, in half of the cases
    threat = Retiming(budget, limit)
    counted = realised(threat, x_adv, x)
    assert torch.equal(threat.size(x_adv, x).double(), counted.double())
    assert torch.equal(threat.admits(x_adv, x), counted <= budget)


def test_long_pixel_lines_are_matched_exactly():
    x = (uniform(torch.arange(4), 1, (9, 2, 2, 2)) < 0.8).float()
    order = uniform(torch.arange(4), 2, (9,)).argsort(1)
    x_adv = x.gather(1, order[:, :, None, None, None].expand_as(x))
    for limit in ("binf", "b1", "b0"):
        threat = Retiming(100, limit)
        assert torch.equal(threat.size(x_adv, x), realised(threat, x_adv, x).float())


@given(frames(3), st.integers(0, 40), seeds)
def test_random_flips_spend_the_budget(x, k, seed):
    counts, binary = Flips(k, binary=False), Flips(k, binary=True)
    assert torch.equal(realised(counts, counts.random(x, noise(seed)), x), torch.full((3,), k))
    ones = x.clamp_max(1)
    spent = realised(binary, binary.random(ones, noise(seed)), ones)
    assert torch.equal(spent, torch.full((3,), min(k, ones[0].numel())))


@given(frames(1), limits, st.integers(0, 6), seeds)
def test_random_retimings_spend_the_budget_where_packets_can_move(x, limit, budget, seed):
    threat = Retiming(budget, limit)
    x_adv = threat.random(x, noise(seed))
    assert (realised(threat, x_adv, x) <= budget).all()
    movable = ((x != 0).any(1) & (x == 0).any(1)).flatten(1).any(1)
    assert torch.equal((x_adv != x).flatten(1).any(1), movable & (budget > 0))


@pytest.mark.parametrize(("limit", "spent"), [("b0", 4), ("b1", 4)])
def test_a_budget_goes_to_the_moves_of_most_gain_for_their_cost(limit, spent):
    x = torch.zeros(1, 6, 1, 1, 8)
    x[:, 0] = 1
    gain = torch.zeros(1, 6, 6, 1, 1, 8)
    gain[0, 0, 1] = torch.arange(8.0)
    moved = Retiming(spent, limit).arrange(gain, x)
    assert moved[0, 1, 0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_packets_follow_each_other_into_steps_that_become_free():
    x = torch.tensor([3.0, 2.0, 0.0]).reshape(1, 3, 1, 1, 1)
    gain = torch.zeros(1, 3, 3, 1, 1, 1)
    gain[0, 1, 2], gain[0, 0, 1] = 1.0, 5.0
    assert Retiming(1).arrange(gain, x).flatten().tolist() == [0, 3, 2]
    assert Retiming(1, "b0").arrange(gain, x).flatten().tolist() == [3, 0, 2]


@pytest.mark.parametrize("limit", ["binf", "b1", "b0"])
def test_retiming_keeps_what_has_no_gain_and_survives_no_events_and_no_samples(limit):
    threat = Retiming(2, limit)
    x = torch.zeros(SHAPE)
    assert torch.equal(threat.random(x, noise(0)), x)
    ones = torch.ones(SHAPE)
    assert torch.equal(threat.random(ones, noise(0)), ones)
    assert torch.equal(threat.arrange(torch.zeros(3, 4, 4, *SHAPE[2:]), x + 1), ones)
    assert len(threat.project(x[:0], x[:0])) == len(threat.admits(x[:0], x[:0])) == 0


def test_trap_14_every_sample_has_its_own_budget_and_the_scan_goes_on_past_the_dear():
    x = torch.zeros(2, 6, 1, 1, 3)
    x[:, 0] = 1
    gain = torch.zeros(2, 6, 6, 1, 1, 3)
    gain[:, 0, 5, 0, 0, 0] = 100.0  # too dear for what the second leaves
    gain[:, 0, 2, 0, 0, 1] = 90.0
    gain[:, 0, 1, 0, 0, 2] = 1.0
    threat = Retiming(5, "b1")
    moved = threat.arrange(gain, x)
    assert torch.equal(threat.size(moved, x), torch.tensor([3.0, 3.0]))
    assert moved[0, 2, 0, 0, 1] == moved[0, 1, 0, 0, 2] == 1
    assert torch.equal(moved[:1], threat.arrange(gain[:1], x[:1]))


def test_trap_10_counts_are_not_cut_to_one():
    x = torch.full((1, 2, 1, 1, 2), 7.0)
    threat = Flips(6, binary=False)
    assert threat.project(x + 3, x).sum() == x.sum() + 6
    assert threat.random(x, lambda shape: torch.full((1, *shape), 0.9)).amax() > 7
    assert RelaxedLinf(1.0, high=10).project(x + 3, x).amax() == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.5])
def test_what_no_sensor_delivers_is_not_admitted(value):
    x = torch.ones(SHAPE)
    x_adv = x.clone()
    x_adv[1, 0, 0, 0, 0] = value
    for threat in (Flips(100, binary=False), Flips(100, binary=True), Retiming(100, "b0")):
        assert threat.admits(x_adv, x).tolist() == [True, False, True]
        with pytest.raises(Refusal, match="sensor"):
            threat.admits(x, x_adv)
        assert threat.admits(threat.project(x_adv, x), x).all()


def test_a_second_event_in_a_binary_entry_is_not_admitted():
    x = torch.ones(SHAPE)
    assert not Flips(100, binary=True).admits(x + 1, x).any()
    assert Flips(100, binary=False).admits(x + 1, x).all()
    with pytest.raises(Refusal, match="0 or 1"):
        Flips(1, binary=True).project(x, x + 1)


@pytest.mark.parametrize("make", [lambda b: Flips(b, binary=True), Retiming])
@pytest.mark.parametrize("budget", [-1, -7])
def test_a_budget_is_a_whole_number(make, budget):
    with pytest.raises(Refusal, match="whole number"):
        make(budget)


def test_the_relaxed_ball_says_so_and_is_linf():
    relaxed, box = RelaxedLinf(1.0, high=4.0), Linf(1.0, 0.0, 4.0)
    x = (4 * uniform(torch.arange(3), 1, SHAPE[1:])).round()
    other = 4 * uniform(torch.arange(3), 2, SHAPE[1:])
    assert "relaxed" in relaxed.kind
    assert "Relaxed" in str(relaxed)
    for a, b in (
        (relaxed.project(other, x), box.project(other, x)),
        (relaxed.size(other, x), box.size(other, x)),
        (relaxed.steepest(other - 2), box.steepest(other - 2)),
        (relaxed.random(x, noise(0)), box.random(x, noise(0))),
        (relaxed.admits(other, x), box.admits(other, x)),
    ):
        assert torch.equal(a, b)
    with pytest.raises(Refusal, match="units of the input range"):
        RelaxedLinf(8.0, high=1.0)


def test_searches_in_norm_balls_fit_the_relaxed_ball_and_no_other_event_threat():
    x, y = recordings(20, binary=False)
    found = attacked(PGD(), RelaxedLinf(1.0, high=10.0), small_network(), x, y)
    assert (found.at > 1).any()
    assert (found.x_adv != found.x_adv.round()).any()
    with pytest.raises(Refusal, match="does not fit"):
        attacked(PGD(), Flips(5, binary=False), small_network(), x, y)


@pytest.mark.parametrize("search", [Square(30), FAB()])
def test_trap_16_image_searches_take_frames_of_rank_five_in_the_relaxed_ball_alone(search):
    x, y = recordings(12, binary=False)
    threat, model = RelaxedLinf(1.0, high=10.0), small_network()
    with under_attack(model):
        found = run(Attack(search, Margin()), model, x, y, threat, ids=torch.arange(12))
    assert found.x_adv.shape == x.shape
    assert found.fallen.any()
    assert threat.admits(found.x_adv, x).all()
    with pytest.raises(Refusal, match="does not fit"):
        attacked(search, Flips(5, binary=False), model, x, y)
