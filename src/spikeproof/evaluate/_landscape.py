"""The loss around a sample: on planes through it, and along directions beside its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof import seeding
from spikeproof.attacks import CE, Victim, frozen, margins
from spikeproof.errors import Refusal
from spikeproof.evaluate._trials import named
from spikeproof.spiking import CBA, Rule, forget

SIDE = 21  # points along each direction of a plane
SPAN = 2.0  # budgets to each side
DIRECTIONS = 32
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the budget
CHUNK = 64  # rows of a forward pass


@dataclass(frozen=True)
class Plane:
    """Margin and cross entropy at ``x + a first + b second``, for all ``a`` and ``b`` of ``at``.

    Values lie row by row, ``a`` being the row; a margin is positive where the answer is wrong.
    Both directions have an entry of 1 at most, so ``at`` is in units of the input range. The
    second direction is random signs, the first random signs or the way to an adversarial.
    """

    sample: int
    kind: Literal["random", "adversarial"]
    at: tuple[float, ...]
    margin: tuple[float, ...]
    loss: tuple[float, ...]


@dataclass(frozen=True)
class Directional:
    """The loss's slope along random signs: by the gradient, and by differences of ``step``."""

    sample: int
    rule: str
    step: float
    predicted: tuple[float, ...]
    measured: tuple[float, ...]


def plane(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    adversarial: Tensor | None = None,
    sample: int = 0,
    side: int = SIDE,
    seed: int = 0,
) -> Plane:
    """Returns the plane around one sample (1, *F), twice ``eps`` to each side.

    ``adversarial`` is the input towards which its first direction leads.
    """
    if len(x) != 1 or side < 3:
        raise Refusal(
            f"a plane of {side} points a side around {len(x)} samples; it lies around one and has "
            "3 or more; give one sample"
        )
    signs = _signs(x, 2, seeding.derive(seed, "plane", sample))
    first, second = signs[:1], signs[1:]
    if adversarial is not None:
        way = adversarial - x
        if not bool(way.any()):
            raise Refusal("the adversarial is the sample itself; it gives no direction; attack it")
        first = way / way.abs().max()
    at = torch.linspace(-SPAN * eps, SPAN * eps, side, dtype=torch.float64)
    steps = torch.cartesian_prod(at, at).to(x)
    moves = [_along(row, first) + _along(part, second) for row, part in _pairs(steps)]
    logits = _answers(model, [x + move for move in moves], seed)
    labels = y.expand(len(logits))
    return Plane(
        sample=sample,
        kind="random" if adversarial is None else "adversarial",
        at=tuple(at.tolist()),
        margin=tuple(margins(logits, labels).tolist()),
        loss=tuple(CE()(logits, labels, labels).tolist()),
    )


def directional(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    rule: Rule | CBA | None = None,
    sample: int = 0,
    seed: int = 0,
) -> tuple[Directional, ...]:
    """Returns the loss's slopes at one sample (1, *F), in the same directions for several steps."""
    signs = _signs(x, DIRECTIONS, seeding.derive(seed, "directions", sample))
    with frozen(model):
        victim = Victim(model, rule)
        victim.redraw(seeding.derive(seed, "landscape"))
        forget(victim.source)
        _, _, gradient = victim.gradient(x, lambda logits: CE()(logits, y, y), per_step=False)
    predicted = tuple((gradient * signs).double().flatten(1).sum(1).tolist())
    found = []
    for step in (share * eps for share in SHARES):
        ends = [x + way * step * part for way in (1, -1) for part in signs.split(CHUNK)]
        logits = _answers(model, ends, seed).double()
        high, low = CE()(logits, y.expand(len(logits)), y).unflatten(0, (2, -1))
        rise = (high - low) / (2 * step)
        found.append(Directional(sample, named(rule), step, predicted, tuple(rise.tolist())))
    return tuple(found)


def agreement(found: Directional) -> float | None:
    """Returns the share of directions in which both slopes have one sign, or None."""
    pairs = [(a, b) for a, b in zip(found.predicted, found.measured, strict=True) if b]
    return sum((a > 0) == (b > 0) and a != 0 for a, b in pairs) / len(pairs) if pairs else None


def _signs(x: Tensor, count: int, seed: int) -> Tensor:
    noise = torch.rand((count, *x.shape[1:]), generator=seeding.generator(seed, "signs"))
    return torch.where(noise < 0.5, -1.0, 1.0).to(x)


def _pairs(steps: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return ((part[:, 0], part[:, 1]) for part in steps.split(CHUNK))


def _along(length: Tensor, direction: Tensor) -> Tensor:
    return length.reshape(-1, *[1] * (direction.dim() - 1)) * direction


def _answers(model: nn.Module, inputs: list[Tensor], seed: int) -> Tensor:
    with frozen(model):
        victim = Victim(model)
        victim.redraw(seeding.derive(seed, "landscape"))
        return torch.cat([victim.logits(part) for part in inputs])
