"""What every way of pruning and every pattern owes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from spikeproof.compress import Harp, Pattern, Pruning, kept_count, masks_of, over_budget, prunable
from spikeproof.seeding import generator
from tests.compress.descent import descend, learning, sgd

STEPS = 12


def assert_pruning(method: Pruning, *, exact: bool = True) -> None:
    """Asks without a trace, goes on after a kill bit by bit, and ends with a plain sparse network.

    ``exact`` methods keep the budget to the weight, each layer by itself or all together.
    """
    model = learning()
    before = copy.deepcopy(model.state_dict())
    first = method.masks(model, 1)
    assert _same(model.state_dict(), before), "asking changed the network"
    weights = prunable(model, method.dense)
    assert {n: m.shape for n, m in first.kept.items()} == {n: w.shape for n, w in weights.items()}
    assert method.masks(model, 1).digest() == first.digest()
    assert method.begin(model, 1).digest() == first.digest()

    other, loss = copy.deepcopy(model), over_budget if isinstance(method, Harp) else None
    optimizer = descend(model, method.hold(STEPS, 3, 1), STEPS, loss=loss)
    _assert_goes_on(method, model, other, optimizer)

    method.end(model)
    masks = masks_of(model, method.dense)
    assert model.state_dict().keys() == before.keys(), "not a plain network"
    assert all(p.requires_grad for p in model.parameters())
    total, each = sum(w.numel() for w in weights.values()), weights.values()
    if exact:
        by_layer = sum(kept_count(w.numel(), method.sparsity) for w in each)
        assert masks.weights in (kept_count(total, method.sparsity), by_layer)
    assert 0 < masks.weights < total
    settled = copy.deepcopy(model.state_dict())
    descend(model, _nothing, 0)
    assert _same(model.state_dict(), settled)


def _assert_goes_on(
    method: Pruning, model: nn.Module, other: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Half of the steps, then weights and memory as a checkpoint has them, and a new ``hold``."""
    loss = over_budget if isinstance(method, Harp) else None
    half = descend(other, method.hold(STEPS, 3, 1), STEPS // 2, loss=loss)
    resumed = copy.deepcopy(other)
    later = sgd(resumed)
    later.load_state_dict(copy.deepcopy(half.state_dict()))
    descend(resumed, method.hold(STEPS, 3, 1), STEPS, later, STEPS // 2, loss=loss)
    assert _same(resumed.state_dict(), model.state_dict()), "what the weights do not tell was lost"
    for a, b in zip(later.state.values(), optimizer.state.values(), strict=True):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])


def _nothing(*_: object) -> None:
    return None


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def assert_pattern(pattern: Pattern) -> None:
    """A boolean mask; all or near ``keep``; larger scores never lose; units do not matter."""
    for shape in ((8, 12), (4, 3, 3, 3), (5, 7)):
        score = torch.rand(shape, generator=generator(0, "pattern", *shape))
        n = score.numel()
        mask = pattern.pick(score, n // 2)
        assert mask.dtype == torch.bool
        assert mask.shape == score.shape
        assert 0 < mask.sum() < n
        assert torch.equal(pattern.pick(score, n // 2), mask)
        assert torch.equal(pattern.pick(1000 * score, n // 2), mask)
        assert torch.equal(pattern.pick(score + mask, n // 2), mask), "kept ones grew and lost"
        other = pattern.pick(1 - score, n // 2)
        assert n < 96 or not torch.equal(other, mask), "scores do not matter"
