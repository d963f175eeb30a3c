"""The seam between neurons and hardware: one function from currents to spikes.

The reference is the contract of every faster kernel: bit-identical spikes and membranes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from spikeproof.errors import Refusal, short
from spikeproof.spiking import _reference
from spikeproof.spiking._reference import How
from spikeproof.spiking._rules import BPTT, Memory, Rule

KERNELS = ("auto", "reference")
_chosen = [os.environ.get("SPIKEPROOF_KERNEL", "auto")]


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
    how = How(hard, rule, memory, curve)
    fused = None if _plain() else _fused()
    if fused is not None and fused.serves(current, membrane, theta, tau, how):
        return fused.integrate_and_fire(current, membrane, theta, tau, how)
    if not torch.is_grad_enabled():
        spikes, after, _ = _reference.run(current, membrane, theta, tau, how)
        return spikes, after
    return _reference.Reference.apply(current, membrane, theta, tau, how)


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Runs the block's neurons by the ``reference``, or by the fastest that serves: ``auto``.

    The environment variable SPIKEPROOF_KERNEL says the same for a whole process.
    """
    before = _chosen[0]
    _chosen[0] = name
    try:
        _plain()
        yield
    finally:
        _chosen[0] = before


def kernel_in_use() -> str:
    """Returns which kernel runs neurons in float32 on the CPU, and why if it is the slow one."""
    if _plain():
        return "reference (as chosen)"
    if _fused() is None:
        return "reference (Numba cannot be loaded)"
    from numba import __version__

    return f"fused (Numba {__version__})"


def _plain() -> bool:
    if _chosen[0] not in KERNELS:
        raise Refusal(
            f"the kernel is {short(_chosen[0])}; it is one of {', '.join(KERNELS)}; take auto "
            "(SPIKEPROOF_KERNEL may have named it)"
        )
    return _chosen[0] == "reference"


@cache
def _fused() -> ModuleType | None:
    """Returns the fused kernel; its import takes Numba's half second, at the first neuron."""
    try:
        from spikeproof.spiking import _fused
    except (ImportError, OSError, RuntimeError):  # absent, not loading, or nowhere to keep its code
        return None
    return _fused
