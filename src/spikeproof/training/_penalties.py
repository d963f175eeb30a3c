"""Penalties: what an objective may be made to mind besides its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.spiking import Encode, Gate, Spiking
from spikeproof.training._norms import Again, statistics_of_first_pass
from spikeproof.training._objectives import Objective


class Fired(NamedTuple):
    """What one layer of neurons was given, (T, B, *F), and what it answered."""

    layer: Spiking
    current: Tensor
    spikes: Tensor


@dataclass(frozen=True, eq=False)
class Pass:
    """The forward pass on which an objective took its loss.

    ``x`` requires a gradient, and ``logits`` are their mean over time. ``fired`` has the layers of
    neurons in the order in which they fired, if a penalty asks for them (``neurons = True``), for
    they take memory. Inside ``with again():`` the network norms another
    pass by the batch statistics of this one, and draws its noise.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    logits: Tensor
    fired: Sequence[Fired]
    again: Again


_Noise = list[tuple[torch.Generator, Tensor]]
_Heard = tuple[Tensor, Tensor, list[Fired], _Noise]
Penalty = Callable[[Pass], Tensor]


def penalised(objective: Objective, penalties: Sequence[Penalty]) -> Objective:
    """Returns the objective with what the penalties add at the inputs where it takes its loss.

    Under adversarial training these are the attacked inputs; under TRADES and MART, clean and
    attacked ones.
    """
    if not penalties:
        return objective
    neurons = any(getattr(penalty, "neurons", False) for penalty in penalties)

    def added(model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        made: list[_Heard] = []
        with statistics_of_first_pass(model) as again:
            loss = objective(_Network(model, made.append, neurons=neurons), x, y, seed)
            if len(made) != 1:
                raise Refusal(
                    f"{objective} makes {len(made)} passes with gradients; penalties look at the "
                    "one where the loss is taken; send all inputs through the network at once"
                )
            inputs, logits, fired, noise = made[0]
            repeated = y.repeat(len(inputs) // len(y))
            seen = Pass(model, inputs, repeated, logits, fired, _redrawing(again, noise))
            return loss + torch.stack([penalty(seen) for penalty in penalties]).sum()

    return added


def _generators(model: nn.Module) -> list[torch.Generator]:
    sources = (module for module in model.modules() if isinstance(module, Encode | Gate))
    return list({id(s.generator): s.generator for s in sources if s.generator is not None}.values())


def _redrawing(again: Again, noise: _Noise) -> Again:
    @contextmanager
    def both() -> Iterator[None]:
        with again():
            for generator, state in noise:
                generator.set_state(state)
            yield

    return both


@contextmanager
def _listening(model: nn.Module) -> Iterator[list[Fired]]:
    """Keeps what layers of neurons are given and answer."""
    fired: list[Fired] = []

    def heard(layer: nn.Module, given: tuple[Tensor, ...], spikes: Tensor) -> None:
        if isinstance(layer, Spiking):
            current = layer.unfolded(given[0])
            fired.append(Fired(layer, current, spikes.unflatten(0, current.shape[:2])))

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, Spiking):
                hooks.callback(module.register_forward_hook(heard).remove)
        yield fired


class _Network(nn.Module):
    """The network, whose passes that a gradient will follow are told with their inputs.

    ``tell`` is a bound method of a list, which copies of this module share.
    """

    def __init__(
        self, model: nn.Module, tell: Callable[[_Heard], None], *, neurons: bool = False
    ) -> None:
        super().__init__()
        self.model, self.tell, self.training = model, tell, model.training
        self.neurons = neurons
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
        with _listening(self.model if self.neurons else nn.Identity()) as fired:
            logits = call(x)
        self.tell((x, over_time(logits), fired, noise))
        return logits

    def _learning(self) -> bool:
        # an attack freezes the weights before it asks
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.model.parameters())
