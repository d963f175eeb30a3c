"""Exact search: a tiny network is asked about everything that a threat admits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikeproof.attacks import Flips, Threat
from spikeproof.errors import Refusal, within

ROWS = 256  # of every pass but the last


@dataclass(frozen=True)
class Exact:
    """The truth about flipped events, as long as there are at most ``most`` inputs to ask about."""

    most: int = 100_000
    kind: Literal["exact"] = "exact"

    def __post_init__(self) -> None:
        within("most", self.most, 1, 1e9)


def exact_margins(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, method: Exact | None = None
) -> Tensor:
    """Returns (B, K) the least margins of the network over all inputs that the threat admits."""
    method = method or Exact()
    if not isinstance(threat, Flips) or not threat.binary:
        raise Refusal(
            f"the threat is {threat}; all its inputs can be asked about where entries are 0 or 1; "
            "take flips:K, or the method ibp"
        )
    entries = x[0].numel()
    count = sum(math.comb(entries, flips) for flips in range(min(threat.k, entries) + 1))
    if count > method.most:
        raise Refusal(
            f"{threat} admits {count:,} inputs of {entries} entries; at most {method.most:,} are "
            "asked about; take fewer flips, the method ibp, or a larger most"
        )
    found = []
    for clean, label in zip(x, y, strict=True):
        least = None
        for rows in _batched(_choices(entries, threat.k)):
            others = clean.flatten().repeat(len(rows), 1)
            for row, places in zip(others, rows, strict=True):
                row[list(places)] = 1 - row[list(places)]
            with torch.no_grad():
                logits = model(others.reshape(-1, *clean.shape)).double()
            apart = (logits[:, label][:, None] - logits).amin(0)
            least = apart if least is None else torch.minimum(least, apart)
        found.append(least)
    return torch.stack([row for row in found if row is not None])


def _choices(entries: int, k: int) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(
        itertools.combinations(range(entries), flips) for flips in range(min(k, entries) + 1)
    )


def _batched(rows: Iterator[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    while batch := list(itertools.islice(rows, ROWS)):
        yield batch
