"""What every threat owes: one set of admissible inputs, told alike by all of its methods."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from spikeproof.attacks import Flips, Retiming, Threat
from spikeproof.attacks._noise import uniform
from spikeproof.seeding import generator
from tests.oracles import event_feasibility as oracle

SHAPE = (6, 4, 2, 2, 3)
BUDGET = {"eps", "k", "budget"}


def assert_threat(threat: Threat) -> None:
    """Clean inputs are admissible; what it projects or draws is, too; what is larger is not."""
    x = _clean(threat)
    zero, many = torch.zeros(len(x)), torch.arange(len(x))
    wild = x + 2 * torch.randn(x.shape, generator=generator(1, "wild"))
    drawn = [
        method(x, lambda shape, turn=turn: uniform(many, turn, shape))
        for turn, method in ((1, threat.random), (2, threat.random), (3, threat.corner))
    ]
    for made in (x, threat.project(wild, x), *drawn):
        assert threat.admits(made, x).all()
        assert (sized(threat, made, x) <= _budget(threat) * (1 + 1e-6) + 1e-6).all()
        again = threat.project(made, x)
        torch.testing.assert_close(again, made, rtol=0, atol=2e-6)
        torch.testing.assert_close(threat.size(made, x).double(), sized(threat, made, x))
    assert torch.equal(threat.size(x, x), zero)
    assert torch.equal(threat.project(x, x), x)
    assert not torch.equal(drawn[0], drawn[1]), "always the same draw"
    _assert_rows(threat, wild, x)
    _assert_refuses(threat, x, drawn)
    assert len(threat.project(x[:0], x[:0])) == len(threat.admits(x[:0], x[:0])) == 0


def sized(threat: Threat, x_adv: Tensor, x: Tensor) -> Tensor:
    """Returns the size of each change, counted here in float64; infinite where it is no change."""
    new, old = x_adv.double().flatten(1), x.double().flatten(1)
    match threat:
        case Flips():
            counted = [
                oracle.changes(a, b, threat.binary)
                for a, b in zip(new.numpy(), old.numpy(), strict=True)
            ]
        case Retiming():
            found = [
                oracle.retimed(a, b)
                for a, b in zip(x_adv.double().numpy(), x.double().numpy(), strict=True)
            ]
            counted = [None if sizes is None else sizes[threat.limits] for sizes in found]
        case _:
            norm = {"l0": 0, "l1": 1, "l2": 2}.get(threat.kind, torch.inf)
            return torch.linalg.vector_norm(new - old, norm, dim=1)
    return torch.tensor([torch.inf if size is None else size for size in counted]).double()


def _clean(threat: Threat) -> Tensor:
    source = generator(0, "clean")
    if isinstance(threat, Flips | Retiming):
        x = torch.poisson(torch.full(SHAPE, 0.5), generator=source)
        return x.clamp_max(1) if getattr(threat, "binary", False) else x
    return torch.rand(SHAPE, generator=source) * (threat.high - threat.low) + threat.low


def _budget(threat: Threat) -> float:
    return float(next(getattr(threat, f.name) for f in fields(threat) if f.name in BUDGET))


def _assert_rows(threat: Threat, wild: Tensor, x: Tensor) -> None:
    order = torch.tensor([4, 1])
    part = threat.project(wild[order], x[order])
    assert torch.equal(part, threat.project(wild, x)[order]), "a sample depends on its neighbours"
    draw = {
        rows: threat.random(x[list(rows)], lambda shape, r=rows: uniform(torch.tensor(r), 1, shape))
        for rows in ((0, 1, 2, 3, 4, 5), (4, 1))
    }
    assert torch.equal(draw[4, 1], draw[0, 1, 2, 3, 4, 5][order])


def _assert_refuses(threat: Threat, x: Tensor, drawn: list[Tensor]) -> None:
    """No budget admits nothing but the clean input, and no one admits what is no number."""
    name = next(f.name for f in fields(threat) if f.name in BUDGET)
    none = replace(threat, **{name: 0})
    assert torch.equal(none.project(drawn[0], x), x)
    moved = (drawn[0] != x).flatten(1).any(1)
    assert moved.any()
    assert torch.equal(none.admits(drawn[0], x), ~moved)
    outside = x.clone()
    outside[2].flatten()[0] = -9.0
    assert threat.admits(threat.project(outside, x), x).all()
    for value in (torch.nan, torch.inf, -torch.inf, -9.0):
        bad = x.clone()
        bad[2].flatten()[0] = value
        assert threat.admits(bad, x).tolist() == [True, True, False, True, True, True]
