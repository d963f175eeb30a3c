"""What every loss of an attacker owes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikeproof.attacks import APGD, Attack, Linf, Loss, run, under_attack
from spikeproof.seeding import generator
from tests.contracts.attack import COUNT, samples, small_network

ROWS, STEPS = 12, 3


def assert_loss(loss: Loss, classes: int) -> None:
    """One number per sample, its own affair, that rises as the answer gets worse; and it climbs."""
    logits, y, target = _answers(loss, classes)
    kept = logits.clone()
    values = loss(logits, y, target)
    assert values.shape == (ROWS,)
    assert values.isfinite().all()
    assert torch.equal(logits, kept), "the logits were changed"
    _assert_rows(loss, logits, y, target, values)
    _assert_slope(loss, logits, y, target)
    _assert_ties_and_none(loss, classes)
    if loss.signed:
        wrong = _wrong(loss, logits, y, target)
        assert torch.equal(values > 0, wrong)
        assert wrong.any()
        assert not wrong.all()


def assert_loss_climbs(loss: Loss) -> None:
    """An attack that follows it breaks what was right, in every batch the same."""
    model, (x, y) = small_network(), samples()
    attack = Attack(APGD(10, targets=2 if loss.targeted else 0), loss)
    ids, ball = torch.arange(COUNT), Linf(0.1)
    with under_attack(model):
        found = run(attack, model, x, y, ball, ids=ids)
        assert found.fallen.sum() > (model(x).argmax(1) != y).sum() + 3
        for rows in ids.split(9):
            part = run(attack, model, x[rows], y[rows], ball, ids=rows)
            assert torch.equal(part.x_adv, found.x_adv[rows])


def _answers(loss: Loss, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    source = generator(classes, loss.kind)
    shape = (STEPS, ROWS, classes) if loss.per_step else (ROWS, classes)
    logits = 3 * torch.randn(shape, generator=source, dtype=torch.float64)
    y = torch.randint(classes, (ROWS,), generator=source)
    target = (y + 1 + torch.randint(classes - 1, (ROWS,), generator=source)) % classes
    ahead = torch.where(torch.arange(ROWS) % 2 == 0, y, target)  # right and wrong in turn
    logits += 6 * functional.one_hot(ahead, classes)
    return logits, y, target


def _wrong(loss: Loss, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    own = logits.gather(1, y[:, None])[:, 0]
    if loss.targeted:
        return logits.gather(1, target[:, None])[:, 0] > own
    return logits.argmax(1) != y


def _assert_rows(loss: Loss, logits: Tensor, y: Tensor, target: Tensor, values: Tensor) -> None:
    order = torch.randperm(ROWS, generator=generator(0, "rows"))[:5]
    part = loss(logits[..., order, :], y[order], target[order])
    torch.testing.assert_close(part, values[order], rtol=1e-12, atol=0)


def _assert_slope(loss: Loss, logits: Tensor, y: Tensor, target: Tensor) -> None:
    """The gradient is that of finite differences, and never rewards the right answer."""
    leaf = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, y, target).sum(), leaf)
    small = 1e-6
    for klass in range(logits.shape[-1]):
        change = torch.zeros_like(logits)
        change[..., klass] = small
        up, down = (loss(logits + side * change, y, target) for side in (1, -1))
        along = slope[..., klass] if logits.dim() == 2 else slope[..., klass].sum(0)
        torch.testing.assert_close(along, (up - down) / (2 * small), rtol=1e-5, atol=1e-7)
    worse = -functional.one_hot(y, logits.shape[-1])
    if loss.targeted:  # whose unit shrinks with the label
        worse = functional.one_hot(target, logits.shape[-1])
    right = ~_wrong(loss, logits.mean(0) if loss.per_step else logits, y, target)
    rise = loss(logits + 1e-3 * worse, y, target) - loss(logits, y, target)
    assert (rise[right] > -1e-12).all()


def _assert_ties_and_none(loss: Loss, classes: int) -> None:
    shape = (STEPS, 2, classes) if loss.per_step else (2, classes)
    y, target = torch.tensor([0, 1]), torch.tensor([1, 0])
    logits = torch.zeros(shape, requires_grad=True)
    values = loss(logits, y, target)
    (slope,) = torch.autograd.grad(values.sum(), logits)
    assert values.isfinite().all()
    assert slope.isfinite().all(), "a tie divides by nothing"
    assert loss(logits[..., :0, :], y[:0], target[:0]).shape == (0,)
