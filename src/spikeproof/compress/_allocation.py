"""How many weights each layer may keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from spikeproof.compress._masks import kept_count

Allocation = Literal["layer", "global", "erk", "lamp"]


def allocate(
    weights: Mapping[str, Tensor], sparsity: float, allocation: Allocation
) -> dict[str, int]:
    """Returns the number of weights that each layer keeps.

    ``layer`` takes the same share of each; the others keep ``kept_count`` of all weights together.
    ``global`` keeps the largest of all. ``erk`` gives layer l a density in proportion to the sum
    of its dimensions over their product, at most 1 (Evci et al., 2020,
    https://arxiv.org/abs/1911.11134). ``lamp`` keeps the largest of all by
    ``w^2 / sum of the squares in its layer that are not smaller`` (Lee et al., 2021,
    https://arxiv.org/abs/2010.07611).
    """
    sizes = {name: weight.numel() for name, weight in weights.items()}
    if allocation == "layer":
        return {name: kept_count(size, sparsity) for name, size in sizes.items()}
    total = kept_count(sum(sizes.values()), sparsity)
    if allocation == "erk":
        return _erk({name: tuple(weight.shape) for name, weight in weights.items()}, total)
    scores = [_lamp(w) if allocation == "lamp" else w.detach().abs() for w in weights.values()]
    return _largest(scores, total, list(weights))


def rounded(shares: Mapping[str, float], total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Returns whole numbers near the shares that sum to ``total``: the largest rests go up."""
    counts = {name: min(int(share), sizes[name]) for name, share in shares.items()}
    open_ = [name for name in shares if counts[name] < sizes[name]]
    missing = total - sum(counts.values())
    for name in sorted(open_, key=lambda n: counts[n] - shares[n])[: max(missing, 0)]:
        counts[name] += 1
    return counts


def _erk(shapes: Mapping[str, tuple[int, ...]], total: int) -> dict[str, int]:
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    dims = {name: float(sum(shape)) for name, shape in shapes.items()}  # raw density times size
    dense: set[str] = set()
    while True:
        sparse = [name for name in shapes if name not in dense]
        left = total - sum(sizes[name] for name in dense)
        scale = left / sum(dims[name] for name in sparse) if sparse else 0.0
        full = {name for name in sparse if scale * dims[name] > sizes[name]}
        if not full:
            break
        dense |= full
    shares = {n: float(sizes[n]) if n in dense else scale * dims[n] for n in shapes}
    return rounded(shares, total, sizes)


def _lamp(weight: Tensor) -> Tensor:
    squares = weight.detach().double().square().flatten()
    rising, order = squares.sort(stable=True)
    above = rising.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = torch.where(above > 0, rising / above, 0)
    return scores


def _largest(scores: list[Tensor], total: int, names: list[str]) -> dict[str, int]:
    together = torch.cat([score.flatten() for score in scores])
    kept = torch.ones_like(together, dtype=torch.bool)
    kept[together.argsort(stable=True)[: len(together) - total]] = False
    parts = kept.split([score.numel() for score in scores])
    return {name: int(part.sum()) for name, part in zip(names, parts, strict=True)}
