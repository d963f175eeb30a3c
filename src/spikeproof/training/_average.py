"""The running mean of a network's weights: what is validated and kept in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """``a <- a + (1 - decay) (w - a)`` after every step, over weights and running statistics.

    While few steps have passed, the decay is ``step / (step + 10)`` if that is smaller: the
    random weights of the start must not linger. Counters are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after this step, counted from 1."""
        decay = min(self.decay, step / (step + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - decay)
            else:
                self.tensors[name].copy_(value)

    @torch.no_grad()
    def exchange(self, model: nn.Module) -> None:
        """Gives the model the mean and keeps the model's own tensors; twice changes nothing."""
        held = model.state_dict()
        own = {name: value.clone() for name, value in held.items()}  # before any of tied ones
        for name, value in held.items():
            value.copy_(self.tensors[name])
        self.tensors = own


@contextmanager
def averaged(model: nn.Module, average: Average | None) -> Iterator[None]:
    """Lets the model hold the mean inside the block, where there is one."""
    if average is not None:
        average.exchange(model)
    try:
        yield
    finally:
        if average is not None:
            average.exchange(model)


def tensors(average: Average | None) -> dict[str, Tensor]:
    """Returns the mean by name; nothing where there is none."""
    return {} if average is None else average.tensors
