"""The seam between neurons and hardware: one function from currents to spikes.

The reference is the contract of every faster kernel: bit-identical spikes and membranes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

import torch
from torch import Tensor

from spikeproof.errors import Refusal, short
from spikeproof.spiking import _reference
from spikeproof.spiking._reference import How
from spikeproof.spiking._rules import BPTT, Memory, Rule

KERNELS = ("auto", "reference")
CHOSEN = [os.environ.get("SPIKEPROOF_KERNEL", "auto")]


def integrate_and_fire(  # noqa: PLR0913  what a layer of neurons is told
    current: Tensor,
    membrane: Tensor | None,
    theta: Tensor | float,
    tau: Tensor | float,
    *,
    hard: bool,
    rule: Rule,
    memory: Memory | None = None,
    smooth: bool = False,
    steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the spikes (T, B, *F) and the membrane after the last reset (B, *F).

    For every step: ``u <- tau u + x``, ``s = 1[u >= theta]``, then ``u <- u (1 - s)`` (hard) or
    ``u <- u - theta s`` (soft). Without a membrane the neurons start at rest. ``smooth`` fires
    the surrogate's primitive instead of the step, which makes the rule's gradient the true one.
    ``steps`` holds a current of one step (1, B, *F) for so many.
    Currents in 16 bits give spikes in 16 bits; their membranes are summed in float32.
    """
    curve = rule.surrogate if smooth and isinstance(rule, BPTT) else None
    how = How(hard, rule, memory, steps or len(current), curve)
    fast = None if _plain() else _compiled(current.device.type)
    if fast is not None and fast.serves(current, membrane, theta, tau, how):
        return fast.integrate_and_fire(current, membrane, theta, tau, how)
    low = current.dtype if current.dtype in (torch.bfloat16, torch.float16) else None
    if low is not None:  # a membrane sums T currents
        given = (current.float(), membrane, theta, tau)
        spikes, after = integrate_and_fire(
            *given, hard=hard, rule=rule, memory=memory, smooth=smooth, steps=steps
        )
        return spikes.to(low), after
    current = how.held(current)
    if not torch.is_grad_enabled():
        spikes, after, _ = _reference.run(current, membrane, theta, tau, how)
        return spikes, after
    return _reference.Reference.apply(current, membrane, theta, tau, how)


def fire_and_pool(
    current: Tensor,
    theta: Tensor | float,
    tau: Tensor | float,
    *,
    hard: bool,
    rule: Rule,
    memory: Memory | None,
    steps: int,
) -> Tensor | None:
    """Returns the means of 2x2 places of the spikes, bit for bit, which are nowhere written.

    None where the kernel in use does not serve this.
    """
    how = How(hard, rule, memory, steps, pooled=True)
    fast = None if _plain() else _compiled(current.device.type)
    if fast is None or not fast.serves(current, None, theta, tau, how):
        return None
    means: Tensor = fast.integrate_and_fire(current, None, theta, tau, how)[0]
    return means


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """Runs the block's neurons by the ``reference``, or by the fastest that serves: ``auto``.

    The environment variable SPIKEPROOF_KERNEL says the same for a whole process.
    """
    before = CHOSEN[0]
    CHOSEN[0] = name
    try:
        _plain()
        yield
    finally:
        CHOSEN[0] = before


def kernel_in_use(device: str = "cpu") -> str:
    """Returns which kernel runs neurons on a device, and why if it is the slow one."""
    if _plain():
        return "reference (as chosen)"
    name, package = ("triton", "Triton") if _triton_serves(device) else ("fused", "llvmlite")
    if _compiled(device) is None:
        return f"reference ({package} cannot be loaded)"
    return f"{name} ({package} {version(package.lower())})"


def _plain() -> bool:
    if CHOSEN[0] not in KERNELS:
        raise Refusal(
            f"the kernel is {short(CHOSEN[0])}; it is one of {', '.join(KERNELS)}; take auto "
            "(SPIKEPROOF_KERNEL may have named it)"
        )
    return CHOSEN[0] == "reference"


def _triton_serves(device: str) -> bool:
    return device == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _compiled(device: str) -> ModuleType | None:
    """Returns a device's fast kernel; the import takes its compiler's half second, at first use."""
    name = "_triton" if _triton_serves(device) else "_fused"
    try:
        return import_module(f"spikeproof.spiking.{name}")
    except (ImportError, OSError, RuntimeError):  # absent, not loading, or nowhere to keep its code
        return None
