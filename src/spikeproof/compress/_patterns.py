"""Which shapes the kept weights may form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from spikeproof.errors import Refusal, within


class Pattern(ABC):
    """Picks the weights of a layer to keep. A weight is a matrix: outputs by flattened inputs."""

    kind: str

    @abstractmethod
    def pick(self, score: Tensor, keep: int) -> Tensor:
        """Returns the mask of the ``keep`` largest scores, or as near as the pattern allows."""

    def check(self, sparsity: float, allocation: str) -> None:  # noqa: B027  most have none
        """Refuses a sparsity that the pattern cannot have."""


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any weights; of equal scores the later one is kept."""

    kind: Literal["unstructured"] = "unstructured"

    @override
    def pick(self, score: Tensor, keep: int) -> Tensor:
        flat = score.detach().flatten()
        mask = torch.ones_like(flat, dtype=torch.bool)
        mask[flat.argsort(stable=True)[: len(flat) - keep]] = False
        return mask.view_as(score)


@dataclass(frozen=True)
class NM(Pattern):
    """``n`` of every ``m`` inputs of an output that stand next to each other; sparsity 1 - n/m."""

    n: int = 2
    m: int = 4
    kind: Literal["nm"] = "nm"

    def __post_init__(self) -> None:
        within("m of nm", self.m, 1, 4096)
        within("n of nm", self.n, 1, self.m)

    @override
    def check(self, sparsity: float, allocation: str) -> None:
        if abs(sparsity - (1 - self.n / self.m)) > 1e-9 or allocation != "layer":
            raise Refusal(
                f"sparsity is {sparsity} and allocation {allocation!r}; the pattern "
                f"{self.n}:{self.m} removes {1 - self.n / self.m} of every layer; "
                "take that with allocation 'layer'"
            )

    @override
    def pick(self, score: Tensor, keep: int) -> Tensor:
        rows = score.detach().flatten(1)
        spare = -rows.shape[1] % self.m
        groups = functional.pad(rows, (0, spare), value=-torch.inf).unflatten(1, (-1, self.m))
        mask = torch.ones_like(groups, dtype=torch.bool)
        mask.scatter_(2, groups.argsort(dim=2, stable=True)[..., : self.m - self.n], value=False)
        return mask.flatten(1)[:, : rows.shape[1]].reshape(score.shape)


@dataclass(frozen=True)
class Block(Pattern):
    """Whole tiles of ``rows`` outputs by ``columns`` inputs, those whose scores sum to the most."""

    rows: int = 4
    columns: int = 4
    kind: Literal["block"] = "block"

    def __post_init__(self) -> None:
        within("rows of block", self.rows, 1, 4096)
        within("columns of block", self.columns, 1, 4096)

    @override
    def pick(self, score: Tensor, keep: int) -> Tensor:
        matrix = score.detach().flatten(1)
        high, wide = matrix.shape
        padded = functional.pad(matrix, (0, -wide % self.columns, 0, -high % self.rows))
        tiles = padded.unflatten(1, (-1, self.columns)).unflatten(0, (-1, self.rows))
        sums = tiles.sum((1, 3))
        kept = Unstructured().pick(sums, -(-keep * sums.numel() // matrix.numel()))
        whole = kept.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
        return whole[:high, :wide].reshape(score.shape)
