"""What keeps a network as sparse as it is while it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.compress._layers import Part
from spikeproof.compress._masks import Masks, enforce, masks_of, matched

# Called when the weights are in place and after every step, with the number of steps done.
Hold = Callable[[nn.Module, torch.optim.Optimizer, int], None]
# Weights, their masks, the optimizer and the number of steps done, to the masks from there on.
Change = Callable[[Mapping[str, Tensor], Masks, torch.optim.Optimizer, int], Masks]


def holding(
    masks: Masks | None = None, change: Change | None = None, dense: Iterable[Part] = ()
) -> Hold:
    """Returns what holds weights to masks, or to those that they carry at the first call.

    After every step removed weights are exactly 0, and so is what the optimizer remembers of them:
    neither momentum nor decay can bring one back. ``change`` may then move the masks. A new
    object serves each run; it remembers nothing that the weights do not tell.
    """
    now = masks

    @torch.no_grad()
    def hold(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        nonlocal now
        first = now is None or now is masks
        if now is None:
            now = masks_of(model, dense)
        weights = matched(model, now)
        now = Masks({n: m.to(weights[n].device) for n, m in now.kept.items()})
        _keep(weights, now, optimizer)
        if change is not None and not first:
            now = change(weights, now, optimizer, step)
            _keep(weights, now, optimizer)

    return hold


def _keep(weights: Mapping[str, Tensor], masks: Masks, optimizer: torch.optim.Optimizer) -> None:
    enforce(weights, masks)
    for name, weight in weights.items():
        memory: Mapping[str, Any] = optimizer.state.get(weight, {})
        for value in memory.values():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                value.masked_fill_(~masks.kept[name], 0)
