"""Square: a random search by scores alone (Andriushchenko et al., 2020, arXiv 1912.00049)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._foresight import Foresight, Trials
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import L2, Linf, per_row

# Of 10,000 queries: after these the share of the image that a square covers is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

Rows = Standing | Trials


@dataclass(frozen=True)
class Square(Search):
    """Squares of constant change at random places, kept where the loss does not fall.

    Any axes before the last two count as channels. A change that leaves the loss as it is counts
    as progress: scores of spiking networks come in steps. A square may lie anywhere; in the
    reference package none reaches the last row or column.
    """

    queries: int = 5000
    p_init: float = 0.8
    kind: Literal["square"] = "square"
    fits = (Linf, L2)
    blind = True

    @override
    def __call__(self, s: Standing) -> None:
        linf = isinstance(s.ball, Linf)
        start, propose, calls = (_stripes, _squares, 2) if linf else (_tiles, _swap, 4)
        sides = self._sides(s.x, 1 if linf else 3)
        s.x = _image(s, start(s))
        self._ask(s)
        s.best, s.peak = s.x, s.height
        if isinstance(s, Foresight):
            s.climb(self.queries - 1, lambda t: _image(t, propose(t, sides[t.turns])), calls)
            return
        for query in s.steps(self.queries - 1):
            s.x = _image(s, propose(s, sides[query].expand(len(s))))
            self._ask(s)
            kept = s.height >= s.peak
            s.best = torch.where(per_row(kept, s.x), s.x, s.best)
            s.peak = torch.where(kept, s.height, s.peak)

    def _ask(self, s: Standing) -> None:
        logits = s.look(s.x)
        s.height = s.loss(logits, s.y, s.target)

    def _sides(self, x: Tensor, least: int) -> Tensor:
        """Returns the side of each query's square, of a value at least."""
        *_, height, width = _planes(x).shape
        shares = [self._share(query) for query in range(self.queries)]
        sides = [max(round(math.sqrt(share * height * width)), least) for share in shares]
        return torch.tensor(sides, device=x.device)

    def _share(self, query: int) -> float:
        return self.p_init / 2 ** sum(query * 10_000 > at * self.queries for at in HALVINGS)


def _image(s: Rows, delta: Tensor) -> Tensor:
    return s.ball.project(s.clean + delta.reshape(s.clean.shape), s.clean)


def _planes(x: Tensor) -> Tensor:
    height = x.shape[-2] if x.dim() > 2 else 1
    return x.reshape(len(x), math.prod(x.shape[1:]) // (height * x.shape[-1]), height, x.shape[-1])


def _signs(s: Rows, *shape: int) -> Tensor:
    return torch.where(s.uniform(shape) < 0.5, -1.0, 1.0).to(s.clean.dtype)


def _window(s: Rows, sides: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns where rows and columns lie in a random square; outside they are not in 0..side."""
    corner = s.uniform((2,))
    top = (corner[:, 0] * (height - sides.clamp_max(height) + 1)).long()
    left = (corner[:, 1] * (width - sides.clamp_max(width) + 1)).long()
    rows = torch.arange(height, device=sides.device) - top[:, None]
    columns = torch.arange(width, device=sides.device) - left[:, None]
    return rows[:, None, :, None], columns[:, None, None, :]


def _inside(rows: Tensor, columns: Tensor, sides: Tensor) -> Tensor:
    sides = per_row(sides, rows)
    return (rows >= 0) & (rows < sides) & (columns >= 0) & (columns < sides)


def _stripes(s: Standing) -> Tensor:
    _, channels, height, width = _planes(s.x).shape
    return s.ball.eps * _signs(s, channels, 1, width).expand(-1, -1, height, -1)


def _squares(s: Rows, sides: Tensor) -> Tensor:
    delta = _planes(s.best - s.clean)
    _, channels, height, width = delta.shape
    inside = _inside(*_window(s, sides, height, width), sides)
    return torch.where(inside, s.ball.eps * _signs(s, channels, 1, 1), delta)


def _tiles(s: Standing) -> Tensor:
    """Returns bumps of random signs side by side over the whole image, of norm eps."""
    planes = _planes(s.x)
    _, channels, height, width = planes.shape
    side = max(min(height, width) // 5, 1)
    bump = _bump(side, like=planes)
    down, across = math.ceil(height / side), math.ceil(width / side)
    signs = _signs(s, channels, down, across)
    tiled = signs.repeat_interleave(side, 2).repeat_interleave(side, 3) * bump.repeat(down, across)
    tiled = tiled[:, :, :height, :width]
    return s.ball.eps * tiled / per_row(_norm(tiled), tiled)


def _swap(s: Rows, sides: Tensor) -> Tensor:
    """Returns the change with the budget of one square moved to another, of norm eps."""
    delta = _planes(s.best - s.clean)
    _, channels, height, width = delta.shape
    sides = sides + 1 - sides % 2
    rows, columns = _window(s, sides, height, width)
    here = _inside(rows, columns, sides)
    there = _inside(*_window(s, sides, height, width), sides)
    bumps, which = _bumps(sides, like=delta)
    last = per_row(sides - 1, delta)
    rows, columns = (lines.clamp_min(0).minimum(last) for lines in (rows, columns))
    straight, turned = bumps[which, rows, columns], bumps[which, columns, rows]
    shape = torch.where(per_row(s.uniform((1,))[:, 0] < 0.5, delta), straight, turned)
    old = torch.where(here, delta, 0)
    fresh = _signs(s, channels, 1, 1) * shape + old / per_row(_norm(old), old)
    fresh = torch.where(here, fresh, 0)
    spare = (s.ball.eps**2 - delta.flatten(1).square().sum(1)).clamp_min(0) / channels
    freed = torch.where(here | there, delta, 0).square().sum((2, 3), keepdim=True)
    scale = (per_row(spare, delta) + freed).sqrt()
    fresh = fresh / fresh.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-12) * scale
    moved = torch.where(here, fresh, torch.where(there, 0, delta))
    return s.ball.eps * moved / per_row(_norm(moved), moved)


def _norm(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1).clamp_min(1e-12)


def _bumps(sides: Tensor, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a bump of each size, in the corner of as large a plane, and which one a row has."""
    sizes, which = sides.unique(return_inverse=True)
    whole = int(sizes[-1])
    found = [functional.pad(_bump(n, like=like), (0, whole - n) * 2) for n in sizes.tolist()]
    return torch.stack(found), per_row(which, like)


def _bump(side: int, *, like: Tensor) -> Tensor:
    """Returns a hill beside a valley of the same shape, together of norm 1."""
    upper = _hill(side // 2, side)
    both = torch.cat([upper, -_hill(side - side // 2, side)]).to(like)
    return both / both.norm().clamp_min(1e-12)


def _hill(height: int, width: int) -> Tensor:
    """Returns a sum of centred squares, each larger and lower than the one before; norm 1."""
    hill = torch.zeros(height, width)
    down, across = height // 2, width // 2
    for ring in range(max(down, across) + 1):
        rows = slice(max(down - ring, 0), down + ring + 1)
        columns = slice(max(across - ring, 0), across + ring + 1)
        hill[rows, columns] += 1 / (ring + 1) ** 2
    return hill / hill.norm().clamp_min(1e-12)
