"""Rules that average over time, in a network that calls its neurons once a step.

When the gradient of a step is asked for, those of earlier steps are not known yet. So the graph is
cut at every spike, and the backward pass goes from layer to layer instead of from step to step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import Refusal
from spikeproof.interop._steps import Stepped, measured


class Sewing:
    """What one call of a network leaves: every layer's currents, distances and cut spikes."""

    def __init__(self) -> None:
        self.cuts: dict[Stepped, list[tuple[Tensor, Tensor, Tensor]]] = {}

    def cut(self, layer: Stepped, current: Tensor, distance: Tensor) -> Tensor:
        """Returns the spikes of a step, with no graph behind them."""
        spikes = layer.fires(distance.detach()).requires_grad_()
        self.cuts.setdefault(layer, []).append((current, distance.detach(), spikes))
        return spikes

    def gradient(self, x: Tensor, out: Tensor, d_out: Tensor) -> Tensor:
        """Returns the gradient at the input, from the last layer to the first."""
        found = {
            spikes: torch.zeros_like(spikes) for at in self.cuts.values() for _, _, spikes in at
        }
        found[x] = torch.zeros_like(x)
        self._spread([out], [d_out], found, set())
        done: set[Tensor] = set()
        for layer, steps in reversed(self.cuts.items()):
            done.update(spikes for _, _, spikes in steps)
            slopes = layer.rule.slopes(measured(layer, steps), layer.memory)
            d_spikes = torch.stack([found[spikes] for _, _, spikes in steps])
            mean = (slopes * d_spikes).mean(0)
            tracked = [current for current, _, _ in steps if current.requires_grad]
            self._spread(tracked, [mean] * len(tracked), found, done)
        return found[x]

    @staticmethod
    def _spread(
        of: list[Tensor], given: list[Tensor], found: dict[Tensor, Tensor], done: set[Tensor]
    ) -> None:
        if not of:
            return
        parts = torch.autograd.grad(of, [*found], given, retain_graph=True, allow_unused=True)
        for place, part in zip(found, parts, strict=True):
            if part is not None and place in done:
                raise Refusal(
                    "spikes of a layer reach it again through later ones; a rule that averages "
                    "over time has no order of layers there; choose another gradient rule"
                )
            if part is not None:
                found[place] += part


def sewn(net: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns what the network answers; its gradient goes from layer to layer."""
    if any(parameter.requires_grad for parameter in net.parameters()):
        raise Refusal(
            "weights that learn meet a rule that averages over time, and the network calls its "
            "neurons once a step; only its input has a gradient then; freeze the weights"
        )
    sewing = Sewing()
    layers = [module for module in net.modules() if isinstance(module, Stepped)]
    start = x.detach().requires_grad_()
    try:
        for layer in layers:
            layer.sewing = sewing
        out = run(start)
    finally:
        for layer in layers:
            layer.sewing = None
    return _Sewn.apply(x, out.detach(), lambda d_out: sewing.gradient(start, out, d_out))


class _Sewn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        _, out, ctx.gradient = given
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None]:
        with torch.enable_grad():
            return ctx.gradient(d_out), None, None
