"""What the searches that add and remove events share: choosing, trying and undoing changes."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._losses import margins
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import per_row


def flips(s: Standing) -> Flips:
    """Returns the threat of a search that adds and removes events."""
    if not isinstance(s.threat, Flips):
        raise TypeError(f"{s.threat} does not count events")
    return s.threat


def lively(gradient: Tensor, noise: Tensor) -> Tensor:
    """Returns the gradient, and noise for a sample that has none: it is changed at random."""
    dead = ~((gradient != 0) & gradient.isfinite()).flatten(1).any(1)
    return torch.where(per_row(dead, noise), noise, gradient.nan_to_num(0.0, 0.0, 0.0))


def best_changes(slope: Tensor, change: Tensor, k: int | Tensor) -> Tensor:
    """Returns those ``k`` of the changes, per sample, that gain most; none that gains nothing."""
    gain = (slope * change).flatten(1)
    count = k[:, None] if isinstance(k, Tensor) else k
    return torch.where(((ranked(gain) < count) & (gain > 0)).reshape(change.shape), change, 0)


def ranked(values: Tensor) -> Tensor:
    """Returns the rank of each value in its row: 0 is the largest, of equals the first."""
    return values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def tried(
    s: Standing, x: Tensor, rows: Tensor, places: Tensor, change: Tensor, batch: int
) -> Tensor:
    """Returns the margin after one change each: in ``x[rows]``, at the flat index ``places``.

    Trials of all samples are packed into batches, for each is independent of all others.
    """
    found = [x.new_zeros(0)]
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        trial = x[rows[part]].flatten(1)
        trial.scatter_add_(1, places[part, None], change[part, None].to(x.dtype))
        logits = s.probe(trial.reshape(-1, *x.shape[1:]), rows[part])
        found.append(margins(logits, s.y[rows[part]]))
    return torch.cat(found)


def undone(s: Standing, x: Tensor, fooled: Tensor, batch: int) -> Tensor:
    """Returns fooling inputs with fewer changes, for the samples where ``x`` is ``fooled``.

    Every change is undone alone; then, ordered by the margin that this leaves, the longest row
    of them that can be undone together is found by bisection; again, until nothing is gained.
    """
    x, busy = x.clone(), fooled.clone()
    while bool(busy.any()):
        back = (s.clean - x).flatten(1).sign() * busy[:, None]
        rows, places = back.nonzero(as_tuple=True)
        margin = tried(s, x, rows, places, back[rows, places], batch)
        left = torch.full_like(back, -torch.inf)
        left[rows, places] = margin
        ranks = ranked(left)
        low, high = torch.zeros_like(s.y), (back != 0).sum(1)
        while bool((low < high).any()):
            middle = (low + high + 1) // 2
            open_ = (low < high).nonzero().squeeze(1)
            trial = _without(x, back, ranks, middle)[open_]
            good = margins(s.probe(trial, open_), s.y[open_]) >= 0
            low[open_] = torch.where(good, middle[open_], low[open_])
            high[open_] = torch.where(good, high[open_], middle[open_] - 1)
        x = _without(x, back, ranks, low)
        busy &= low > 0
    return x


def _without(x: Tensor, back: Tensor, ranks: Tensor, count: Tensor) -> Tensor:
    return x + (back * (ranks < count[:, None])).reshape(x.shape)
