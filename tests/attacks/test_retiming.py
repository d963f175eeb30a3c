from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from spikeproof.attacks import (
    CE,
    Attack,
    Flips,
    RandomSearch,
    Retiming,
    RetimingSearch,
    Standing,
    Victim,
    run,
)
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from tests.contracts.event_attack import (
    Plane,
    assert_beats_noise,
    attacked,
    recordings,
    small_network,
)
from tests.oracles import event_feasibility as oracle


@pytest.mark.parametrize("threat", [Retiming(1), Retiming(4, "b1"), Retiming(4, "b0")])
def test_retiming_beats_noise(threat):
    assert_beats_noise(RetimingSearch(20), RandomSearch(20), threat)


def every_retiming(x):
    """All ways to put the packets of each pixel into steps of their own."""
    steps = x.shape[1]
    lines = x.reshape(steps, -1).T.tolist()
    ways = [set(itertools.permutations(line)) for line in lines]
    for choice in itertools.product(*ways):
        yield torch.tensor(choice).T.reshape(x.shape)


@pytest.mark.parametrize("limits", ["binf", "b1", "b0"])
def test_a_plane_falls_near_the_optimum_by_trying_all_and_never_below_it(limits):
    close = 0
    for seed in range(6):
        x = recordings(1, binary=True, seed=seed)[0][..., :1, :2]
        weight = torch.randperm(x.numel(), generator=generator(seed, "weights")) / 128
        base = float(weight @ x.flatten())
        reachable = [
            (oracle.retimed(z[0].numpy(), x[0].numpy())[limits], float(weight @ z.flatten()))
            for z in every_retiming(x)
        ]
        goal = 0.6 * (max(v for _, v in reachable) - base)
        victim = Plane(weight, torch.tensor(-base - goal))
        least = min(size for size, value in reachable if value - base >= goal)
        y = torch.tensor([0])
        below = Retiming(least - 1, limits)
        assert not attacked(RetimingSearch(20), below, victim, x, y).fallen.any()
        enough = Retiming(least + 1, limits)
        close += int(attacked(RetimingSearch(20), enough, victim, x, y).fallen.sum())
    assert close >= 5  # moves are taken greedily, for the whole is a knapsack with places


def test_trap_16_frames_of_rank_five_come_back_as_whole_numbers():
    x, y = recordings(12, binary=False)
    found = attacked(RetimingSearch(8), Retiming(1), small_network(), x, y)
    assert found.x_adv.shape == x.shape
    assert torch.equal(found.x_adv, found.x_adv.round())
    assert torch.equal(found.x_adv.sum(1), x.sum(1))


def test_trap_14_the_budget_is_each_samples_own():
    x, y = recordings(12, binary=True)
    threat = Retiming(6, "b0")
    together = attacked(RetimingSearch(8), threat, small_network(), x, y)
    alone = [
        attacked(RetimingSearch(8), threat, small_network(), *part, ids=torch.tensor([i]))
        for i, part in enumerate(zip(x.split(1), y.split(1), strict=True))
    ]
    assert torch.equal(together.x_adv, torch.cat([one.x_adv for one in alone]))


def test_a_search_refuses_the_other_threat():
    x, y = recordings(2, binary=True)
    with pytest.raises(Refusal, match="Retiming"):
        run(Attack(RetimingSearch()), nn.Identity(), x, y, Flips(3, binary=True), ids=y)


def test_moves_in_time_need_their_threat():
    x, y = recordings(2, binary=True)
    s = Standing(Victim(small_network()), x, y, Flips(3, binary=True), CE(), y)
    with pytest.raises(TypeError, match="in time"):
        RetimingSearch()(s)
