"""Penalties: what an objective may be made to mind besides its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.spiking import Encode
from spikeproof.training._norms import Again, statistics_of_first_pass
from spikeproof.training._objectives import Objective


@dataclass(frozen=True, eq=False)
class Pass:
    """The forward pass on which an objective took its loss.

    ``x`` requires a gradient, and ``logits`` are their mean over time. Inside ``with again():``
    the network norms another pass by the batch statistics of this one, and draws its noise.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    logits: Tensor
    again: Again


_Noise = list[tuple[torch.Generator, Tensor]]
_Heard = tuple[Tensor, Tensor, _Noise]
Penalty = Callable[[Pass], Tensor]


def penalised(objective: Objective, penalties: Sequence[Penalty]) -> Objective:
    """Returns the objective with what the penalties add at the inputs where it takes its loss.

    Under adversarial training these are the attacked inputs; under TRADES and MART, clean and
    attacked ones.
    """
    if not penalties:
        return objective

    def added(model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        made: list[_Heard] = []
        with statistics_of_first_pass(model) as again:
            loss = objective(_Network(model, made.append), x, y, seed)
            if len(made) != 1:
                raise Refusal(
                    f"{objective} makes {len(made)} passes with gradients; penalties look at the "
                    "one where the loss is taken; send all inputs through the network at once"
                )
            inputs, logits, noise = made[0]
            repeated = y.repeat(len(inputs) // len(y))
            seen = Pass(model, inputs, repeated, logits, _redrawing(again, noise))
            return loss + torch.stack([penalty(seen) for penalty in penalties]).sum()

    return added


def _generators(model: nn.Module) -> list[torch.Generator]:
    entrances = (module for module in model.modules() if isinstance(module, Encode))
    return [entrance.generator for entrance in entrances if entrance.generator is not None]


def _redrawing(again: Again, noise: _Noise) -> Again:
    @contextmanager
    def both() -> Iterator[None]:
        with again():
            for generator, state in noise:
                generator.set_state(state)
            yield

    return both


class _Network(nn.Module):
    """The network, whose passes that a gradient will follow are told with their inputs.

    ``tell`` is a bound method of a list, which copies of this module share.
    """

    def __init__(self, model: nn.Module, tell: Callable[[_Heard], None]) -> None:
        super().__init__()
        self.model, self.tell, self.training = model, tell, model.training
        if hasattr(model, "steps"):
            self.steps = self._steps

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self._told(x, self.model, lambda logits: logits)

    def _steps(self, x: Tensor) -> Tensor:
        steps = cast("Callable[[Tensor], Tensor]", self.model.steps)
        return self._told(x, steps, lambda logits: logits.mean(0))

    def _told(
        self, x: Tensor, call: Callable[[Tensor], Tensor], over_time: Callable[[Tensor], Tensor]
    ) -> Tensor:
        if not self._learning():
            return call(x)
        x = x.detach().requires_grad_()
        noise = [(g, g.get_state()) for g in _generators(self.model)]
        logits = call(x)
        self.tell((x, over_time(logits), noise))
        return logits

    def _learning(self) -> bool:
        # an attack freezes the weights before it asks
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.model.parameters())
