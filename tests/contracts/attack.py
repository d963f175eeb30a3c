"""What every search in norm balls owes."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.attacks import (
    CE,
    L0,
    L1,
    L2,
    Attack,
    Ball,
    Linf,
    Loss,
    Outcome,
    RandomSearch,
    Search,
    fingerprint,
    run,
    under_attack,
)
from spikeproof.data import digits
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator, isolated, untouched
from spikeproof.spiking import ASSG, SpikingNetwork
from tests.oracles import linear_attack

BUDGETS: dict[type[Ball], float] = {Linf: 0.12, L2: 0.8, L1: 5.0, L0: 6.0}
COUNT = 24


class Plane(nn.Module):
    """Two classes parted by one plane through the unit cube, and a third that never wins."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(3, 64, generator=generator(seed, "plane"))
        self.weight = nn.Parameter(weight)
        middle = weight @ torch.full((64,), 0.5)
        self.register_buffer("bias", torch.stack([-middle[0], -middle[1], -middle[2] - 1e3]))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.flatten(1), self.weight, self.bias)


class Counted(nn.Module):
    """A model that counts the samples that pass it forwards and backwards, and reads them.

    A victim sends a row that is alone twice, for the sake of equal bits; that is one query.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forwards = self.backwards = 0
        self.finite = True

    def forward(self, x: Tensor) -> Tensor:
        twice = x.requires_grad and len(x) == 2 and torch.equal(x[0], x[1])
        queries = 1 if twice else len(x)
        self.forwards += queries
        self.finite &= bool(x.isfinite().all())
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda _: self._count(queries))
        return self.model(x)

    def _count(self, queries: int) -> None:
        self.backwards += queries


class Flat(nn.Module):
    """Logits that depend on nothing, with a gradient that is zero."""

    def forward(self, x: Tensor) -> Tensor:
        zero = 0 * x.flatten(1).sum(1, keepdim=True)
        return zero + torch.tensor([2.0, 1.0, 0.5, 0.25, 0.0])


class Rowwise(torch.autograd.Function):
    """A linear map whose every sum runs along its own row.

    A matrix product adds in an order that depends on its size, so its last bit depends on the
    batch; here the contract asks for the bits of the search alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return (x[:, None] * weight).sum(-1)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return (d_out.contiguous()[:, None] * weight.T.contiguous()).sum(-1), None


class Exact(nn.Module):
    """A linear layer of the same bits in every batch."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return Rowwise.apply(x, self.weight) + self.bias


@functools.cache
def small_network() -> SpikingNetwork:
    """Returns a spiking network that knows the digits, in eval mode."""
    model = build(MLP((32,)), Setting(channels=1, size=8, T=4))
    x, y = digits().train.batch(torch.arange(600))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with isolated(0):
        for _ in range(60):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.zero_grad()
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            model.set_submodule(name, Exact(layer))
    return model.eval()


def samples() -> tuple[Tensor, Tensor]:
    """Returns digits that the small network has not seen."""
    return digits().test.batch(torch.arange(COUNT))


def assert_search(
    search: Search,
    norms: tuple[type[Ball], ...],
    *,
    loss: Loss | None = None,
    owed: float | None = 1.10,
    patient: Search | None = None,
    fair: bool = True,
) -> None:
    """Admissible, repeatable, one sample at a time, leaves no trace, and finds.

    A linear victim must fall at ``owed`` times the closed form's budget, and never below 0.98 of
    it; ``owed=None`` for noise, which promises no optimum. ``patient`` is the search with the
    queries that this takes. With ``fair`` also what depends on no norm: it pays for every query,
    asks nobody who fell, and bears zeros and an adaptive rule.
    """
    attack = Attack(search, loss or CE())
    enough = replace(attack, search=patient or search)
    assert all(issubclass(norm, search.fits) for norm in norms)
    for norm in norms:
        _assert_closed_form(enough, norm, owed, 2 if patient else 4)
        ball = norm(BUDGETS[norm])
        found = _assert_honest(attack, ball)
        _assert_same_bits(attack, ball, found)
        if owed is not None:
            _assert_stronger_than_noise(enough, ball)
        _assert_nothing_at_zero(attack, norm(0.0))
    if not fair:
        return
    ball = norms[0](BUDGETS[norms[0]])
    _assert_counted(attack, ball)
    _assert_flat(attack, ball)
    if not search.blind:
        adaptive = replace(attack, rule=ASSG())  # whose memory must follow the samples
        _assert_same_bits(adaptive, ball, _assert_honest(adaptive, ball))


def assert_admissible(outcome: Outcome, ball: Ball, x: Tensor) -> None:
    """In range and budget, computed here in float64; the clean input where nothing was found."""
    made, clean = outcome.x_adv.double().flatten(1), x.double().flatten(1)
    assert outcome.x_adv.isfinite().all()
    assert made.min() >= ball.low - 1e-6
    assert made.max() <= ball.high + 1e-6
    size = {
        "linf": lambda d: d.abs().amax(1),
        "l2": lambda d: d.square().sum(1).sqrt(),
        "l1": lambda d: d.abs().sum(1),
        "l0": lambda d: (d != 0).sum(1),
    }[ball.kind](made - clean)
    assert (size <= ball.eps + 1.5e-6 * max(1, ball.eps)).all()
    assert torch.equal(outcome.x_adv[~outcome.fallen], x[~outcome.fallen])
    assert ((outcome.at > 0) == outcome.fallen).all()
    assert (outcome.at <= outcome.forwards).all()


def _assert_closed_form(attack: Attack, norm: type[Ball], owed: float | None, count: int) -> None:
    victim = Plane().eval()
    x = torch.rand(count, 1, 8, 8, generator=generator(1, "plane")) * 0.5 + 0.25
    logits = victim(x)
    y = logits.argmax(1)
    ids = torch.arange(count)
    for i in range(count):
        other = 1 - y[i]
        need = (logits[i, y[i]] - logits[i, other]).item()
        away = (victim.weight[other] - victim.weight[y[i]]).detach().numpy()
        least = linear_attack.budget(norm(1.0).kind, x[i].numpy(), away, need)
        below, above = (least - 1, least) if norm is L0 else (0.98 * least, (owed or 1) * least)
        one = slice(i, i + 1)
        outcome = run(attack, victim, x[one], y[one], norm(below), ids=ids[one])
        assert not outcome.fallen, f"{attack.name} falls below the least budget {least}"
        if owed is not None:
            outcome = run(attack, victim, x[one], y[one], norm(above), ids=ids[one])
            assert outcome.fallen, f"{attack.name} misses {norm.__name__} {above:.4f}"
            assert_admissible(outcome, norm(above), x[one])


def _assert_honest(attack: Attack, ball: Ball) -> Outcome:
    """A trained network of mixed modes, with a hook, is found as it was left."""
    model = small_network()
    x, y = samples()
    seal, kept = fingerprint(model), x.clone()
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    model.layers.train()
    grads = [p.grad for p in model.parameters()]
    learns = [p.requires_grad for p in model.parameters()]
    rules = [getattr(m, "rule", None) for m in model.modules()]
    try:
        with untouched(), under_attack(model):
            found = run(attack, model, x, y, ball, ids=torch.arange(COUNT), seed=3)
        assert [p.requires_grad for p in model.parameters()] == learns
        assert not model.training
        assert model.layers.training
        assert list(model._forward_hooks) == [handle.id]
        assert calls
        assert [getattr(m, "rule", None) for m in model.modules()] == rules
        assert [p.grad for p in model.parameters()] == grads
    finally:
        handle.remove()
        model.eval()
    assert fingerprint(model) == seal
    assert torch.equal(x, kept), "the input was changed"
    assert_admissible(found, ball, x)
    with torch.no_grad():
        logits = model(found.x_adv)
    own = logits.gather(1, y[:, None])[:, 0]
    best = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    assert ((own <= best) >= found.fallen).all(), "a claim is no error"
    return found


def _assert_same_bits(attack: Attack, ball: Ball, found: Outcome) -> None:
    model = small_network()
    x, y = samples()
    ids = torch.arange(COUNT)
    order = torch.randperm(COUNT, generator=generator(2, "order"))
    for parts in (ids.split(7), order.split(5)):
        with under_attack(model):
            for rows in parts:
                again = run(attack, model, x[rows], y[rows], ball, ids=ids[rows], seed=3)
                for name, value in vars(again).items():
                    same = torch.equal(value, getattr(found, name)[rows])
                    assert same, f"{attack.name}: {name} depends on the batch"


def _assert_stronger_than_noise(attack: Attack, ball: Ball) -> None:
    model = small_network()
    x, y = samples()
    noise = Attack(RandomSearch(20))
    with under_attack(model):
        found = run(attack, model, x, y, ball, ids=torch.arange(COUNT), seed=3)
        blind = run(noise, model, x, y, ball, ids=torch.arange(COUNT), seed=3)
    assert found.fallen.sum() >= blind.fallen.sum(), f"{attack.name} is weaker than noise"


def _assert_nothing_at_zero(attack: Attack, ball: Ball) -> None:
    model = small_network()
    x, y = samples()
    x, y = x[:4], y[:4]
    with under_attack(model):
        found = run(attack, model, x, y, ball, ids=torch.arange(4), seed=3)
    assert torch.allclose(found.x_adv, x, rtol=0, atol=1e-6)
    assert torch.equal(found.fallen, model(x).argmax(1) != y)


def _assert_counted(attack: Attack, ball: Ball) -> None:
    model = Counted(small_network())
    x, y = samples()
    with under_attack(model):
        found = run(attack, model, x, y, ball, ids=torch.arange(COUNT), seed=3)
    assert model.finite, f"{attack.name} asked about NaN"
    assert found.forwards.sum() == model.forwards
    assert found.backwards.sum() == model.backwards
    assert not (attack.search.blind and model.backwards)
    # The samples that fall leave at once: none is asked again.
    assert (found.forwards[found.fallen] == found.at[found.fallen]).all()


def _assert_flat(attack: Attack, ball: Ball) -> None:
    model = Counted(Flat())
    x, _ = samples()
    x = x[:3]
    found = run(attack, model, x, torch.zeros(3, dtype=torch.int64), ball, ids=torch.arange(3))
    assert model.finite, f"{attack.name} makes NaN of a gradient of zeros"
    assert not found.fallen.any()
    assert torch.equal(found.x_adv, x)
