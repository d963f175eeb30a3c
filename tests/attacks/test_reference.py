"""The reference package of AutoAttack on the same network, at the same budget, in the same run."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch

from spikeproof.attacks import (
    APGD,
    CE,
    L1,
    L2,
    Attack,
    Linf,
    Margin,
    Square,
    TargetedDLR,
    run,
    under_attack,
)
from spikeproof.data import digits
from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator

COUNT = 300


@functools.cache
def twin():
    """The analog twin of a small network on the digits."""
    model = build(CNN((8, 16), 32), Setting(channels=1, size=8, T=1, neuron=None)).train()
    split = digits().train
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    source = generator(0, "reference")
    for _ in range(8):
        for rows in torch.randperm(len(split), generator=source).split(64):
            x, y = split.batch(rows)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def peer(name):
    return pytest.importorskip(
        f"pyautoattack.{name}", reason="the reference package pyautoattack is not installed"
    )


def options(ball):
    norm = {Linf: "Linf", L2: "L2", L1: "L1"}[type(ball)]
    return {"norm": norm, "eps": ball.eps, "n_restarts": 1, "device": "cpu"}


def theirs(kind, ball, budget):
    base, common = peer("autopgd_base"), {"seed": 0, **options(ball)}
    if kind == "ce":
        return base.APGDAttack(twin(), n_iter=budget, loss="ce", **common)
    return base.APGDAttack_targeted(twin(), n_iter=budget, n_target_classes=9, **common)


def their_square(model, ball, budget, seed, *, anywhere):
    """The reference; ``anywhere`` adds the last place of each axis, which it never draws."""

    class Reference(peer("square").SquareAttack):
        def random_int(self, low=0, high=1, shape=(1,)):
            return super().random_int(low, high + int(anywhere), shape)

    # It asks once before it begins to count.
    return Reference(model, n_queries=budget - 1, p_init=0.8, seed=seed, **options(ball))


def share_standing(made, x, y, ball):
    return ((twin()(made).argmax(1) == y) | ~ball.admits(made, x)).float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("ball", [Linf(0.08), L2(0.45)], ids=lambda b: b.kind)
@pytest.mark.parametrize(
    ("kind", "budget", "ours"),
    [
        ("ce", 100, Attack(APGD(100), CE())),
        ("targeted", 100, Attack(APGD(100, targets=9), TargetedDLR())),
    ],
)
def test_ours_is_no_weaker_than_the_reference_by_a_point_nor_stronger_by_three(
    ball, kind, budget, ours
):
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        attack = theirs(kind, ball, budget)
        model = twin()
        x, y = digits().test.batch(torch.arange(COUNT))
        made = attack.perturb(x, y)
    standing = share_standing(made[1] if isinstance(made, tuple) else made, x, y, ball)
    with under_attack(model):
        own = run(ours, model, x, y, ball, ids=torch.arange(COUNT))
    kept = 1 - own.fallen.float().mean().item()
    print(f"{kind} {ball.kind}: ours {100 * kept:.1f} %, reference {100 * standing:.1f} %")
    assert 0.02 < standing < 0.98, "a budget that tells nothing"
    assert -0.03 <= kept - standing <= 0.01


@pytest.mark.parametrize("anywhere", [False, True])
def test_the_reference_leaves_the_last_row_and_column_to_its_start(anywhere):
    seen = []

    def indifferent(x):
        seen.append(x[0, 0].clone())
        return torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)

    x, y = torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, dtype=torch.int64)
    with torch.random.fork_rng():
        their_square(indifferent, Linf(0.1), 2000, 0, anywhere=anywhere).perturb(x, y)
    # The clean input, the start, a square each that changes the start alone, what was found.
    changed = (torch.stack(seen[2:-1]) != seen[1]).any(0)
    assert changed[:-1, :-1].all()
    assert changed[-1].any() == changed[:, -1].any() == anywhere


@pytest.mark.slow
@pytest.mark.parametrize("ball", [Linf(0.08), L2(0.45)], ids=lambda b: b.kind)
def test_square_ends_within_a_point_of_a_reference_whose_squares_lie_anywhere(ball):
    budget, seeds = 200, 12
    model = twin()
    x, y = digits().test.batch(torch.arange(COUNT))

    def reference(number, *, anywhere):
        attacks = (their_square(model, ball, budget, i, anywhere=anywhere) for i in range(number))
        with torch.random.fork_rng():
            made = [attack.perturb(x, y) for attack in attacks]
        return sum(share_standing(each, x, y, ball) for each in made) / number

    whole, shipped = reference(seeds, anywhere=True), reference(3, anywhere=False)
    with under_attack(model):
        own = run(
            Attack(Square(budget), Margin()),
            model,
            x.repeat(seeds, 1, 1, 1),
            y.repeat(seeds),
            ball,
            ids=torch.arange(seeds * COUNT),
        )
    kept = 1 - own.fallen.float().mean().item()
    print(
        f"square {ball.kind}: ours {100 * kept:.2f} %, reference with squares anywhere "
        f"{100 * whole:.2f} %, as it is {100 * shipped:.2f} %"
    )
    assert 0.02 < whole < 0.98, "a budget that tells nothing"
    assert abs(kept - whole) <= 0.01
    assert kept <= shipped + 0.01


@pytest.mark.slow
def test_sparse_steps_end_within_a_point_of_the_reference_or_below():
    ball = L1(1.2)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        attack = theirs("ce", ball, 100)
        model = twin()
        x, y = digits().test.batch(torch.arange(COUNT))
        attack.init_hyperparam(x)
        scales, steps = [3 * ball.eps, 2 * ball.eps, ball.eps], [30, 30, 40]
        made = attack.decr_eps_pgd(x, y, scales, steps)[3]
    standing = share_standing(made, x, y, ball)
    with under_attack(model):
        own = run(Attack(APGD(100)), model, x, y, ball, ids=torch.arange(COUNT))
    kept = 1 - own.fallen.float().mean().item()
    print(f"ce l1: ours {100 * kept:.1f} %, reference {100 * standing:.1f} %")
    assert 0.02 < standing < 0.98, "a budget that tells nothing"
    assert kept <= standing + 0.01
