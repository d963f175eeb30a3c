"""The seam between neurons and hardware: one function from currents to spikes.

The reference below is the contract of every faster kernel: bit-identical spikes and membranes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeproof.errors import Refusal
from spikeproof.spiking._rules import BPTT, Memory, Rule, Trace
from spikeproof.spiking._surrogates import Surrogate, heaviside


def integrate_and_fire(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    *,
    hard: bool,
    rule: Rule,
    memory: Memory | None = None,
    smooth: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns the spikes (T, B, *F) and the membrane after the last reset (B, *F).

    For every step: ``u <- tau u + x``, ``s = 1[u >= theta]``, then ``u <- u (1 - s)`` (hard) or
    ``u <- u - theta s`` (soft). Without a membrane the neurons start at rest. ``smooth`` fires
    the surrogate's primitive instead of the step, which makes the rule's gradient the true one.
    """
    curve = rule.surrogate if smooth and isinstance(rule, BPTT) else None
    if not torch.is_grad_enabled():
        spikes, after, _ = _run(current, membrane, theta, tau, hard=hard, curve=curve)
        return spikes, after
    return _Reference.apply(current, membrane, theta, tau, _How(hard, rule, memory, curve))


def _run(
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    *,
    hard: bool,
    curve: Surrogate | None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    spikes: list[Tensor] = []
    before: list[Tensor] = []
    after = torch.zeros_like(current[0]) if membrane is None else membrane
    for x in current:
        u = tau * after + x
        s = heaviside(u - theta) if curve is None else curve.primitive(u - theta)
        after = _reset(u, s, theta, hard=hard)
        before.append(u)
        spikes.append(s)
    return torch.stack(spikes), after, before


def _reset(u: Tensor, s: Tensor, theta: Tensor | float, *, hard: bool) -> Tensor:
    return u * (1 - s) if hard else u - theta * s


@dataclass(frozen=True)
class _How:
    """What autograd hands through untouched."""

    hard: bool
    rule: Rule
    memory: Memory | None
    curve: Surrogate | None


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        membrane: Tensor | None,
        theta: Tensor | float,
        tau: Tensor | float,
        how: _How,
    ) -> tuple[Tensor, Tensor]:
        spikes, after, steps = _run(current, membrane, theta, tau, hard=how.hard, curve=how.curve)
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
        if torch.is_grad_enabled():  # once_differentiable lets a part of it through, silently
            raise Refusal(
                "create_graph=True reached a layer of spikes; their gradient is chosen and has no "
                "derivative; compare two forward passes, or use create_graph=False"
            )
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
