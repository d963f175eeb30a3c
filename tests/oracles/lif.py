"""One neuron at a time, one step at a time; and the same dynamics as a graph for autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def neuron(
    currents: np.ndarray, theta: float, tau: float, *, hard: bool, start: float = 0.0
) -> tuple[list[int], float, list[float]]:
    """Spikes, last membrane and membranes before the reset, in the precision of ``currents``."""
    number = np.asarray(currents).dtype.type
    theta, tau, u = number(theta), number(tau), number(start)
    spikes, before = [], []
    for x in currents:
        u = number(number(tau * u) + x)
        before.append(float(u))
        fired = bool(u >= theta)
        spikes.append(int(fired))
        if fired:
            u = number(0) if hard else number(u - theta)
    return spikes, float(u), before


def layer(
    currents: np.ndarray,
    theta: float,
    tau: float,
    *,
    hard: bool,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for an array of currents, time first: spikes, last membranes, membranes before."""
    steps, shape = currents.shape[0], currents.shape[1:]
    flat = currents.reshape(steps, -1)
    begin = np.zeros(flat.shape[1]) if start is None else start.reshape(-1)
    spikes, last, before = np.zeros_like(flat), np.zeros_like(flat[0]), np.zeros_like(flat)
    for i in range(flat.shape[1]):
        s, last[i], u = neuron(flat[:, i], theta, tau, hard=hard, start=begin[i])
        spikes[:, i], before[:, i] = s, u
    return spikes.reshape(currents.shape), last.reshape(shape), before.reshape(currents.shape)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(slope(u))
        return torch.where(u >= 0, 1.0, 0.0).to(u.dtype)

    @staticmethod
    def backward(ctx, d_spike: Tensor):
        return ctx.saved_tensors[0] * d_spike, None


def unrolled(
    current: Tensor,
    membrane: Tensor,
    theta: Tensor,
    tau: Tensor,
    slope: Callable[[Tensor], Tensor],
    *,
    hard: bool,
    detach: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes and last membrane as autograd sees them: every operation recorded, step by step."""
    v, train = membrane, []
    for x in current:
        u = tau * v + x
        s = _Step.apply(u - theta, slope)
        through = s.detach() if detach else s
        v = (1 - through) * u if hard else u - through * theta
        train.append(s)
    return torch.stack(train), v


def smooth(
    current: Tensor,
    membrane: Tensor,
    theta: Tensor,
    tau: Tensor,
    primitive: Callable[[Tensor], Tensor],
    *,
    hard: bool,
) -> tuple[Tensor, Tensor]:
    """The same with a smooth firing function, left to autograd."""
    v, train = membrane, []
    for x in current:
        u = tau * v + x
        s = primitive(u - theta)
        v = (1 - s) * u if hard else u - s * theta
        train.append(s)
    return torch.stack(train), v
