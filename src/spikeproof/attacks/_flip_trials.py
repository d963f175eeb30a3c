"""What the searches that add and remove events share: choosing, trying and undoing changes."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._losses import margins
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import per_row

CACHED = 2**18  # entries; with more, allocating activations costs a CPU more than its arithmetic


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


def answers(s: Standing, x: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Returns the margin of each trial input, of the sample ``rows`` names, in small batches."""
    parts = zip(x.split(_together(x, batch)), rows.split(_together(x, batch)), strict=True)
    return torch.cat([margins(s.probe(part, of), s.y[of]) for part, of in parts])


def tried(
    s: Standing, x: Tensor, rows: Tensor, places: Tensor, change: Tensor, batch: int
) -> Tensor:
    """Returns the margin after one change each: in ``x[rows]``, at the flat index ``places``.

    Trials of all samples are packed into batches, for each is independent of all others.
    """
    found = [x.new_zeros(0)]
    for start in range(0, len(rows), size := _together(x, batch)):
        part = slice(start, start + size)
        trial = _with(x[rows[part]], places[part], change[part])
        found.append(answers(s, trial, rows[part], size))
    return torch.cat(found)


def undone(s: Standing, x: Tensor, fooled: Tensor, worth: Tensor, batch: int) -> Tensor:
    """Returns fooling inputs with fewer changes, for the samples where ``x`` is ``fooled``.

    The changes of least ``worth`` (B, entries) go first: the longest row of them that can be
    undone together, found by bisection; then each that can be undone alone, one after the other,
    in passes over what is left, until a pass gains nothing. The next pass begins with those whose
    trial came nearest.
    """
    order, busy = -worth, fooled
    x = _without_least(s, x, busy, order, batch)
    while bool(busy.any()):
        x, order, busy = _without_single(s, x, busy, order, batch)
    return x


def _without_least(s: Standing, x: Tensor, busy: Tensor, order: Tensor, batch: int) -> Tensor:
    back = _back(s, x, busy)
    ranks = ranked(torch.where(back != 0, order, -torch.inf))
    low, high = torch.zeros_like(s.y), (back != 0).sum(1)
    while bool((low < high).any()):
        middle = (low + high + 1) // 2
        open_ = (low < high).nonzero().squeeze(1)
        trial = _without(x, back, ranks, middle)[open_]
        good = answers(s, trial, open_, batch) >= 0
        low[open_] = torch.where(good, middle[open_], low[open_])
        high[open_] = torch.where(good, high[open_], middle[open_] - 1)
    return _without(x, back, ranks, low)


def _without_single(
    s: Standing, x: Tensor, busy: Tensor, order: Tensor, batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the inputs, the margins that the trials left, and which samples gained."""
    x, back, gained = x.clone(), _back(s, x, busy), torch.zeros_like(busy)
    left = torch.full_like(order, -torch.inf)
    count = (back != 0).sum(1)
    places = torch.where(back != 0, order, -torch.inf).argsort(dim=1, descending=True, stable=True)
    for turn in range(int(count.max())):
        rows = (turn < count).nonzero().squeeze(1)
        place = places[rows, turn]
        trial = _with(x[rows], place, back[rows, place])
        left[rows, place] = answers(s, trial, rows, batch)
        good = left[rows, place] >= 0
        x[rows[good]] = trial[good]
        gained[rows] |= good
    return x, left, gained


def _back(s: Standing, x: Tensor, busy: Tensor) -> Tensor:
    return (s.clean - x).flatten(1).sign() * busy[:, None]


def _with(x: Tensor, places: Tensor, change: Tensor) -> Tensor:
    """Returns ``x``, each row with one change at its place."""
    rows = x.flatten(1).clone()
    return rows.scatter_add_(1, places[:, None], change[:, None].to(x.dtype)).reshape(x.shape)


def _without(x: Tensor, back: Tensor, ranks: Tensor, count: Tensor) -> Tensor:
    return x + (back * (ranks < count[:, None])).reshape(x.shape)


def _together(x: Tensor, batch: int) -> int:
    """Returns how many inputs share a forward pass: on a CPU, what its cache can hold."""
    entries = max(1, x.shape[1:].numel())
    return max(1, min(batch, CACHED // entries)) if x.device.type == "cpu" else batch
