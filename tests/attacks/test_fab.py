from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.attacks import (
    CE,
    DLR,
    FAB,
    L0,
    L1,
    L2,
    PGD,
    Attack,
    Linf,
    Margin,
    Standing,
    Victim,
    nearest,
    run,
)
from spikeproof.attacks._fab import _towards
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from tests.contracts.attack import COUNT, Plane, samples, small_network
from tests.oracles import linear_attack


@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 0.99))
@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_a_step_is_the_shortest_way_to_the_boundary(norm, seed, share):
    source = generator(seed, "fab")
    x = torch.rand(1, 9, generator=source, dtype=torch.float64)
    slope = torch.randn(1, 9, generator=source, dtype=torch.float64)
    slope = slope / slope.abs().max()
    room = torch.where(slope > 0, 1 - x, x)
    need = share * (slope.abs() * room).sum(1)
    s = Standing(
        Victim(Plane()), x, torch.zeros(1, dtype=torch.int64), norm(0.0), Margin(), torch.zeros(1)
    )
    move = _towards(s, x, slope, -need)
    least = linear_attack.budget(norm(0.0).kind, x.numpy(), slope.numpy(), need.item())
    torch.testing.assert_close((move * slope).sum(1), need, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(norm(0.0).size(x + move, x).item(), least, rtol=1e-6, atol=1e-9)
    assert (x + move).min() >= -1e-9
    assert (x + move).max() <= 1 + 1e-9
    back = _towards(s, x, -slope, need)  # the same boundary, from the other side
    torch.testing.assert_close(back, move)


def test_a_boundary_out_of_reach_is_approached_to_the_end_of_the_range():
    x, slope = torch.full((1, 4), 0.5), torch.tensor([[1.0, -1.0, 0.5, 0.0]])
    for norm in (Linf, L2, L1):
        s = Standing(
            Victim(Plane()),
            x,
            torch.zeros(1, dtype=torch.int64),
            norm(0.0),
            Margin(),
            torch.zeros(1),
        )
        move = _towards(s, x, slope, torch.tensor([-100.0]))
        assert torch.equal(move[0, :3], torch.tensor([0.5, -0.5, 0.5]))


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_the_nearest_error_of_a_plane_is_the_closed_form(norm):
    model = Plane().eval()
    x = torch.rand(6, 1, 8, 8, generator=generator(4, "x")) * 0.6 + 0.2
    logits = model(x)
    y = logits.argmax(1)
    found, distance = nearest(
        Attack(FAB(20), Margin()), model, x, y, norm(1.0), ids=torch.arange(6)
    )
    assert (model(found).argmax(1) != y).all()
    torch.testing.assert_close(norm(1.0).size(found, x), distance)
    for i in range(6):
        away = (model.weight[1 - y[i]] - model.weight[y[i]]).detach().numpy()
        need = (logits[i, y[i]] - logits[i, 1 - y[i]]).item()
        least = linear_attack.budget(norm(1.0).kind, x[i].numpy(), away, need)
        assert 0.999 * least <= distance[i].item() <= 1.01 * least


def test_distances_are_zero_for_errors_and_agree_with_budgets():
    model, (x, y) = small_network(), samples()
    ids = torch.arange(COUNT)
    attack = Attack(FAB(30), Margin())
    found, distance = nearest(attack, model, x, y, Linf(1.0), ids=ids)
    wrong = model(x).argmax(1) != y
    assert torch.equal(distance == 0, wrong)
    assert torch.equal(found[wrong], x[wrong])
    finite = distance.isfinite()
    assert finite.float().mean() > 0.9
    assert (model(found[finite]).argmax(1) != y[finite]).all()
    middle = distance[finite & ~wrong].median().item()
    within = run(attack, model, x, y, Linf(middle), ids=ids).fallen
    assert within[distance <= middle].all()
    pgd = run(Attack(PGD(20)), model, x, y, Linf(middle), ids=ids).fallen
    # Linearised boundaries of spiking networks err; it need not win, but not fall far behind.
    assert within.sum() >= 0.75 * pgd.sum()


def test_nothing_found_is_infinitely_far():
    class Sure(torch.nn.Module):
        def forward(self, x):
            return torch.stack([9 + 0 * x.sum((1, 2, 3)), x[:, 0, 0, 0]], 1)

    x = torch.full((2, 1, 2, 2), 0.5)
    found, distance = nearest(
        Attack(FAB(5), Margin()),
        Sure(),
        x,
        torch.zeros(2, dtype=torch.int64),
        L2(1.0),
        ids=torch.arange(2),
    )
    assert distance.isinf().all()
    assert torch.equal(found, x)


def test_what_measures_no_distance_is_refused():
    model, (x, y) = small_network(), samples()
    with pytest.raises(Refusal, match="0 there; take the margin"):
        run(Attack(FAB(), CE()), model, x, y, Linf(0.1), ids=torch.arange(COUNT))
    for attack, ball in ((Attack(PGD()), Linf(0.1)), (Attack(FAB(), DLR()), L0(3.0))):
        with pytest.raises(Refusal, match="measures no distance"):
            nearest(attack, model, x, y, ball, ids=torch.arange(COUNT))
