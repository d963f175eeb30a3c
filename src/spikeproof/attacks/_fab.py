"""Fast adaptive boundary: the nearest error (Croce and Hein, 2020, arXiv 1907.02044)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.attacks._attack import Attack, Search
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L1, L2, Ball, Linf, per_row
from spikeproof.attacks._victim import Victim
from spikeproof.errors import Refusal

OVERSHOOT, PULL, BACK = 1.05, 0.1, 0.9


@dataclass(frozen=True)
class FAB(Search):
    """Projects onto the linearised decision boundary, drawn towards the clean input.

    It needs a loss that is 0 on the boundary. The sample falls at the first error within the
    budget; ``nearest`` asks instead how far the nearest error is.
    """

    steps: int = 100
    targets: int = 0
    kind: Literal["fab"] = "fab"
    fits = (Linf, L2, L1)

    @override
    def __call__(self, s: Standing) -> None:
        if not s.loss.signed:
            raise Refusal(
                f"{s.loss} says nothing of where the boundary is; FAB walks along it and needs a "
                "loss that is 0 there; take the margin"
            )
        s.nearest, s.reach = s.clean, torch.full_like(s.clean.flatten(1)[:, 0], torch.inf)
        for _ in s.aims(self.targets):
            s.x = s.clean
            for _ in s.steps(self.steps):
                slope, height = s.gradient(s.x)
                _remember(s, height >= 0)
                _step(s, slope, height)
        s.x = s.nearest
        s.inner, s.outer = s.clean, s.nearest
        for _ in s.steps(5):
            s.x = (s.inner + s.outer) / 2
            logits = s.look(s.x)
            wrong = s.loss(logits, s.y, s.target) >= 0
            _remember(s, wrong)
            rows = per_row(wrong, s.x)
            s.inner, s.outer = torch.where(rows, s.inner, s.x), torch.where(rows, s.x, s.outer)


def nearest(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    ids: Tensor,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Returns the nearest errors that ``FAB`` finds, and their distances in the ball's norm.

    The ball's ``eps`` plays no part. A distance is 0 where the clean input is an error, and
    infinite, beside the clean input, where none was found.
    """
    if not isinstance(attack.search, FAB) or not isinstance(ball, attack.search.fits):
        raise Refusal(
            f"{attack.search} under {ball} measures no distance; "
            "take FAB and the norm linf, l2 or l1"
        )
    seeds = [seeding.derive(seed, attack.name, int(i)) for i in ids.tolist()]
    s = Standing(
        Victim(model, attack.rule),
        x,
        y,
        replace(ball, eps=0.0),  # no error is admitted, so none but the clean ones ends the walk
        attack.loss,
        torch.tensor(seeds, device=x.device),
    )
    s.row = torch.arange(len(x), device=x.device)
    attack.search(s)
    found, distance = x.clone(), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    found[s.row], distance[s.row] = s.nearest, s.reach
    return found, distance


def _remember(s: Standing, wrong: Tensor) -> None:
    reach = s.ball.size(s.x, s.clean)
    closer = wrong & (reach < s.reach)
    s.nearest = torch.where(per_row(closer, s.x), s.x, s.nearest)
    s.reach = torch.where(closer, reach, s.reach)


def _step(s: Standing, slope: Tensor, height: Tensor) -> None:
    """Moves to the boundary as ``height + slope (z - x) = 0`` draws it."""
    back = torch.where(per_row(height >= 0, s.x), s.clean + BACK * (s.x - s.clean), s.x)
    unit = slope.flatten(1).abs().amax(1)
    slope, height = slope / per_row(unit.clamp_min(1e-30), slope), height / unit.clamp_min(1e-30)
    here = _towards(s, back, slope, height)
    clean = _towards(s, s.clean, slope, height)
    near, far = (s.ball.size(s.clean + move, s.clean) for move in (here, clean))
    pull = per_row((near / (near + far).clamp_min(1e-30)).clamp_max(PULL), slope)
    moved = (1 - pull) * (back + OVERSHOOT * here) + pull * (s.clean + OVERSHOOT * clean)
    s.x = torch.where(per_row(unit > 0, s.x), s.ball.clip(moved), back)


def _towards(s: Standing, start: Tensor, slope: Tensor, height: Tensor) -> Tensor:
    """Returns the smallest move within the range from ``start`` onto the drawn boundary."""
    need = -height - (slope * (start - s.x)).flatten(1).sum(1)
    rows = (slope * per_row(need.sign(), slope)).flatten(1)
    ball = s.ball
    room = torch.where(rows > 0, ball.high - start.flatten(1), start.flatten(1) - ball.low)
    steep, need = rows.abs(), need.abs()[:, None]
    if isinstance(ball, Linf):
        length = torch.minimum(_level(steep, room, need), room)
    elif isinstance(ball, L2):
        level = _level(steep.square(), room / steep.clamp_min(1e-30), need)
        length = torch.minimum(level * steep, room)
    else:
        order = steep.argsort(dim=1, descending=True, stable=True)
        gain = (steep * room).gather(1, order)
        due = (need - gain.cumsum(1) + gain) / steep.gather(1, order).clamp_min(1e-30)
        length = torch.minimum(torch.zeros_like(room).scatter(1, order, due.clamp_min(0)), room)
    return (rows.sign() * length).reshape(start.shape)


def _level(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Returns (B, 1) the t with ``sum(weight min(t, room)) = need``, or the largest room."""
    room, order = room.sort(dim=1, stable=True)
    weight = weight.gather(1, order)
    full = weight * room
    left = weight.flip(1).cumsum(1).flip(1)
    level = (need - full.cumsum(1) + full) / left.clamp_min(1e-30)
    place = (level <= room).to(torch.uint8).argmax(1, keepdim=True)
    reached = (level <= room).any(1, keepdim=True)
    return torch.where(reached, level.gather(1, place), room[:, -1:]).clamp_min(0)
