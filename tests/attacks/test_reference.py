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


def theirs(kind, ball, budget):
    peers = pytest.importorskip(
        "pyautoattack", reason="the reference package pyautoattack is not installed"
    )
    norm, model = {Linf: "Linf", L2: "L2", L1: "L1"}[type(ball)], twin()
    base = peers.autoattack
    common = {"norm": norm, "eps": ball.eps, "n_restarts": 1, "seed": 0, "device": "cpu"}
    if kind == "ce":
        return base.APGDAttack(model, n_iter=budget, loss="ce", **common)
    if kind == "targeted":
        return base.APGDAttack_targeted(model, n_iter=budget, n_target_classes=9, **common)
    from pyautoattack.square import SquareAttack

    return SquareAttack(model, n_queries=budget, p_init=0.8, resc_schedule=True, **common)


@pytest.mark.slow
@pytest.mark.parametrize("ball", [Linf(0.08), L2(0.45)], ids=lambda b: b.kind)
@pytest.mark.parametrize(
    ("kind", "budget", "ours"),
    [
        ("ce", 100, Attack(APGD(100), CE())),
        ("targeted", 100, Attack(APGD(100, targets=9), TargetedDLR())),
        ("square", 1000, Attack(Square(1000), Margin())),
    ],
)
def test_ours_ends_within_a_point_of_the_reference_or_below(ball, kind, budget, ours):
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        attack = theirs(kind, ball, budget)
        model = twin()
        x, y = digits().test.batch(torch.arange(COUNT))
        made = attack.perturb(x, y)
    made = made[1] if isinstance(made, tuple) else made
    standing = ((model(made).argmax(1) == y) | ~ball.admits(made, x)).float().mean().item()
    with under_attack(model):
        own = run(ours, model, x, y, ball, ids=torch.arange(COUNT))
    kept = 1 - own.fallen.float().mean().item()
    print(f"{kind} {ball.kind}: ours {100 * kept:.1f} %, reference {100 * standing:.1f} %")
    assert 0.02 < standing < 0.98, "a budget that tells nothing"
    assert kept <= standing + 0.01


@pytest.mark.slow
def test_sparse_steps_end_within_a_point_of_the_reference_or_below():
    ball = L1(1.2)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        attack = theirs("ce", ball, 100)
        model = twin()
        x, y = digits().test.batch(torch.arange(COUNT))
        attack.init_hyperparam(x)
        scales, steps = [3 * ball.eps, 2 * ball.eps, ball.eps], [30, 30, 40]
        made = attack.decr_eps_pgd(x, y, scales, steps)[3]
    standing = ((model(made).argmax(1) == y) | ~ball.admits(made, x)).float().mean().item()
    with under_attack(model):
        own = run(Attack(APGD(100)), model, x, y, ball, ids=torch.arange(COUNT))
    kept = 1 - own.fallen.float().mean().item()
    print(f"ce l1: ours {100 * kept:.1f} %, reference {100 * standing:.1f} %")
    assert 0.02 < standing < 0.98, "a budget that tells nothing"
    assert kept <= standing + 0.01
