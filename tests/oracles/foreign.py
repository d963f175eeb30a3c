"""Neurons of other frameworks as their documentation and source define them, step by step.

Every operation is one of numpy in float32, in the framework's order, so that bits can be compared.
``x`` are currents (T, N); spikes are returned.
"""

from __future__ import annotations

import numpy as np

F = np.float32
Train = np.ndarray


def spikingjelly(
    x: Train,
    *,
    theta: float = 1.0,
    rest: float | None = 0.0,
    tau: float | None = None,
    w: float | None = None,
    decay_input: bool = True,
    old: bool = False,
) -> Train:
    """IF without ``tau``; LIF; with ``w``, the logit of the share that leaks, parametric LIF."""
    v = np.full_like(x[0], rest or 0.0)
    v0, spikes = F(rest or 0.0), []
    leak = None if w is None else F(1) / (F(1) + np.exp(-F(w), dtype=F))
    for current in x:
        if tau is None and leak is None:
            v = v + current
        elif leak is not None and decay_input:
            v = v + (current - (v - v0)) * leak
        elif leak is not None and old and not rest:
            v = v * (F(1) - leak) + current
        elif leak is not None:
            v = v - (v - v0) * leak + current
        elif decay_input:
            v = v + (current - (v - v0)) / F(tau)
        elif old and rest is None:
            v = v * F(1.0 - 1.0 / tau) + current
        else:
            v = v - (v - v0) / F(tau) + current
        s = (v >= F(theta)).astype(F)
        v = v - s * F(theta) if rest is None else s * v0 + (F(1) - s) * v
        spikes.append(s)
    return np.stack(spikes)


def leaky(x: Train, *, beta: float, theta: float, reset: str, delay: bool) -> Train:
    """snnTorch's Leaky; the reset signal of a step is read from the membrane before it."""
    mem, spikes = np.zeros_like(x[0]), []
    for current in x:
        due = (mem - F(theta) > 0).astype(F)
        if reset == "zero":
            mem = (F(1) - due) * mem
        mem = F(beta) * mem + current
        if reset == "subtract":
            mem = mem - due * F(theta)
        s = (mem - F(theta) > 0).astype(F)
        mem = mem if delay else _paid(mem, s - due, theta, reset)
        spikes.append(s)
    return np.stack(spikes)


def synaptic(
    x: Train, *, alpha: float, beta: float, theta: float, reset: str, delay: bool
) -> Train:
    """snnTorch's Synaptic: a current that leaks as the membrane does."""
    syn, mem, spikes = np.zeros_like(x[0]), np.zeros_like(x[0]), []
    for current in x:
        due = (mem - F(theta) > 0).astype(F)
        syn = F(alpha) * syn + current
        mem = F(beta) * mem + syn
        if reset == "subtract":
            mem = mem - due * F(theta)
        elif reset == "zero":
            mem = mem - mem * due
        s = (mem - F(theta) > 0).astype(F)
        mem = mem if delay else _paid(mem, s - due, theta, reset)
        spikes.append(s)
    return np.stack(spikes)


def lapicque(x: Train, *, r: float, c: float, step: float, theta: float, reset: str) -> Train:
    """snnTorch's Lapicque: a resistor and a capacitor; the reset always comes a step later."""
    mem, spikes = np.zeros_like(x[0]), []
    r, c, step = F(r), F(c), F(step)
    for current in x:
        due = (mem - F(theta) > 0).astype(F)
        charged = current * r * (F(1) / (r * c)) * step + (F(1) - step / (r * c)) * mem
        if reset == "subtract":
            charged = charged - due * F(theta)
        elif reset == "zero":
            charged = charged - due * charged
        mem = charged
        spikes.append((mem - F(theta) > 0).astype(F))
    return np.stack(spikes)


def norse_lif(
    x: Train, *, mem: float, syn: float, leak: float, theta: float, rest: float, dt: float
) -> Train:
    """Norse's feed-forward LIF: the current jumps first, then the membrane moves, then it fires."""
    v, i, spikes = np.full_like(x[0], leak), np.zeros_like(x[0]), []
    for current in x:
        i = i + current
        v = v + F(dt * F(mem)) * ((F(leak) - v) + i)
        i = i + F(-dt * F(syn)) * i
        s = (v - F(theta) > 0).astype(F)
        v = (F(1) - s) * v + s * F(rest)
        spikes.append(s)
    return np.stack(spikes)


def norse_box(x: Train, *, mem: float, leak: float, theta: float, rest: float, dt: float) -> Train:
    """Norse's LIFBox: no synaptic current."""
    v, spikes = np.full_like(x[0], leak), []
    for current in x:
        v = v + F(dt * F(mem)) * (current + F(leak) - v)
        s = (v - F(theta) > 0).astype(F)
        v = (F(1) - s) * v + s * F(rest)
        spikes.append(s)
    return np.stack(spikes)


def norse_iaf(x: Train, *, theta: float, rest: float) -> Train:
    """Norse's IAF: no leak."""
    v, spikes = np.full_like(x[0], rest), []
    for current in x:
        v = v + current
        s = (v - F(theta) > 0).astype(F)
        v = (F(1) - s) * v + s * F(rest)
        spikes.append(s)
    return np.stack(spikes)


def _paid(mem: Train, now: Train, theta: float, reset: str) -> Train:
    if reset == "subtract":
        return mem - now * F(theta)
    return mem - now * mem if reset == "zero" else mem
