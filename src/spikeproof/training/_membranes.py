"""Membranes of a pass, with their gradients: what penalties on the distance to fire look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spikeproof.errors import Refusal
from spikeproof.training._penalties import Fired, Pass


def distances(seen: Pass, kind: str) -> Iterator[Tensor]:
    """Yields every layer's membranes less their threshold, (T, B, *F), before each reset.

    They are computed again from currents and spikes, as a kernel keeps none that a gradient
    reaches. The gradient goes back along the membrane, and through the resets into the spikes,
    whose slope is the rule's.
    """
    fired: Sequence[Fired] = seen.fired
    if not fired:
        raise Refusal(
            f"the penalty is {kind} and {type(seen.model).__name__} has no layer of spikeproof's "
            "neurons; it looks at their membranes; train a spiking network, or take another penalty"
        )
    return (_membranes(one) - one.layer.theta for one in fired)


def _membranes(fired: Fired) -> Tensor:
    layer, current = fired.layer, fired.current
    if current.dtype in (torch.bfloat16, torch.float16):
        current = current.float()
    membranes: list[Tensor] = []
    for x, before in zip(current, [None, *fired.spikes[:-1]], strict=True):
        if before is not None:
            u = membranes[-1]
            kept = u * (1 - before) if layer.neuron.reset == "hard" else u - layer.theta * before
            x = x + layer.tau * kept
        membranes.append(x)
    return torch.stack(membranes)
