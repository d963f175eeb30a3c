"""The reference kernel: plain PyTorch, for every device and type; the contract of all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeproof.errors import Refusal
from spikeproof.spiking._rules import Memory, Rule, Trace
from spikeproof.spiking._surrogates import Surrogate, heaviside


@dataclass(frozen=True)
class How:
    """What autograd hands through untouched."""

    hard: bool
    rule: Rule
    memory: Memory | None
    steps: int  # a current of one step is held for them
    curve: Surrogate | None = None  # fires its primitive in place of the step
    pooled: bool = False  # spikes are handed on as means of 2x2 places

    def held(self, current: Tensor) -> Tensor:
        """Returns the currents of all steps."""
        if len(current) == self.steps:
            return current
        return current.expand(self.steps, *current.shape[1:])


def run(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    how: How,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Returns the spikes, the last membrane, and every step's membrane before its reset."""
    spikes: list[Tensor] = []
    before: list[Tensor] = []
    after = torch.zeros_like(current[0]) if membrane is None else membrane
    for x in current:
        u = tau * after + x
        s = heaviside(u - theta) if how.curve is None else how.curve.primitive(u - theta)
        after = _reset(u, s, theta, hard=how.hard)
        before.append(u)
        spikes.append(s)
    return torch.stack(spikes), after, before


def _reset(u: Tensor, s: Tensor, theta: Tensor | float, *, hard: bool) -> Tensor:
    return u * (1 - s) if hard else u - theta * s


def refuse_second_derivative() -> None:
    """Called in a backward pass; once_differentiable lets a part of it through, silently."""
    if torch.is_grad_enabled():
        raise Refusal(
            "create_graph=True reached a layer of spikes; their gradient is chosen and has no "
            "derivative; compare two forward passes, or use create_graph=False"
        )


class Reference(torch.autograd.Function):
    """The recursion of docs/neurons.md, one step and one operation at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        membrane: Tensor | None,
        theta: Tensor | float,
        tau: Tensor | float,
        how: How,
    ) -> tuple[Tensor, Tensor]:
        spikes, after, steps = run(current, membrane, theta, tau, how)
        if any(ctx.needs_input_grad):
            before = torch.stack(steps)
            slopes = how.rule.slopes(Trace(current, before, spikes, theta, tau), how.memory)
            parameters = [value if isinstance(value, Tensor) else None for value in (theta, tau)]
            ctx.save_for_backward(slopes, spikes, before, membrane, *parameters)
            ctx.numbers = [None if isinstance(v, Tensor) else v for v in (theta, tau)]
            ctx.how = how
        return spikes, after

    @staticmethod
    def backward(ctx: Any, d_spikes: Tensor, d_after: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        slopes, spikes, before, membrane, *parameters = ctx.saved_tensors
        theta, tau = (
            number if kept is None else kept
            for number, kept in zip(ctx.numbers, parameters, strict=True)
        )
        hard, rule = ctx.how.hard, ctx.how.rule
        d_current = torch.empty_like(d_spikes)
        d_theta = d_tau = torch.zeros_like(d_after).sum()
        d_v = d_after  # gradient of the membrane after the reset
        for t in range(len(spikes) - 1, -1, -1):
            u, s, slope = before[t], spikes[t], slopes[t if len(slopes) > 1 else 0]
            d_s = d_spikes[t]
            if rule.temporal and not rule.detach_reset:
                d_s = d_s - (u if hard else theta) * d_v
            d_u = slope * d_s
            if ctx.needs_input_grad[2]:
                through_reset = (s * d_v).sum() if rule.temporal and not hard else 0
                d_theta = d_theta - d_u.sum() - through_reset
            if rule.temporal:
                d_u = d_u + (d_v * (1 - s) if hard else d_v)
            d_current[t] = d_u
            d_v = tau * d_u if rule.temporal else torch.zeros_like(d_u)
            if ctx.needs_input_grad[3] and (t > 0 or membrane is not None):
                earlier = (
                    membrane if t == 0 else _reset(before[t - 1], spikes[t - 1], theta, hard=hard)
                )
                d_tau = d_tau + (d_u * earlier).sum()
        if rule.averaged:
            d_current = d_current.mean(0, keepdim=True).expand_as(d_current)
        return (
            d_current,
            d_v if ctx.needs_input_grad[1] else None,
            d_theta if ctx.needs_input_grad[2] else None,
            d_tau if ctx.needs_input_grad[3] else None,
            None,
        )
