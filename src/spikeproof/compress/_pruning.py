"""What every way of pruning offers: masks to begin with, and what holds or moves them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from spikeproof.compress._holding import Hold, holding
from spikeproof.compress._layers import Part
from spikeproof.compress._masks import Masks, apply, masks_of
from spikeproof.errors import Refusal, short


class Pruning(ABC):
    """A way to make a network sparse; ``sparsity`` is the share of the weights that goes.

    It is one choice at a time: ``begin`` before training, ``hold`` as the argument of ``fit``.
    """

    kind: str
    moves: ClassVar[bool] = False  # masks change while weights are trained under them
    sparsity: float
    dense: tuple[Part, ...]

    @abstractmethod
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        """Returns the masks to begin with; the network stays as it is."""

    def begin(self, model: nn.Module, seed: int = 0) -> Masks:
        """Makes the network ready for its training and returns the masks that it begins with."""
        masks = self.masks(model, seed)
        apply(model, masks)
        return masks

    def hold(self, steps: int, epochs: int, seed: int = 0) -> Hold:  # noqa: ARG002
        """Returns what ``fit`` calls after every one of so many steps."""
        return holding(dense=self.dense)

    def end(self, model: nn.Module) -> Masks:
        """Leaves a plain network behind, with its removed weights at 0, and returns its masks."""
        return masks_of(model, self.dense)


def check_sparsity(value: Any) -> None:
    """Refuses a share that would leave nothing, or is none."""
    if not 0 <= value < 1:
        raise Refusal(
            f"sparsity is {short(value)}; it is the share of the weights that is removed, from 0 "
            "to below 1; take 0.9"
        )
