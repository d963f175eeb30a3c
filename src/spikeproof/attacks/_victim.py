"""The attacker's handle on a model: queries, gradients, and the samples that still stand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import Refusal
from spikeproof.spiking import (
    CBA,
    Encode,
    Gate,
    Rule,
    drawing_from,
    forget,
    keep_samples,
    seen_through,
)

Rows = Callable[[Tensor], Tensor]


class Victim:
    """A model under attack: in eval mode, its weights frozen, its queries counted.

    ``logits`` is the deployed forward pass. The gradient is the attacker's choice: that of the
    model itself, of a view of it through a rule, or of another model (a transfer attack).

    The noise of a stochastic network is the victim's to give: ``redraw`` before every pass.
    """

    def __init__(
        self, model: nn.Module, rule: Rule | CBA | None = None, *, source: nn.Module | None = None
    ) -> None:
        self.model = _owned(model)
        chosen = self.model if source is None else _owned(source)
        self.source = chosen if rule is None else seen_through(chosen, rule)
        # Through any other rule the source's logits are the model's own, bit for bit.
        self.same_forward = source is None and not isinstance(rule, CBA)
        self._sources = [*_noisy(self.model), *_noisy(self.source)]

    def redraw(self, *seeds: int) -> None:
        """Gives a stochastic network the noise of this seed: one field, shared by all samples.

        To each sample it is as random as a field of its own, and it does not depend on the batch.
        Of several seeds, each is that of an equal part of the batch, one after the other.
        """
        for source in self._sources:
            source.redraw(*seeds)

    def logits(self, x: Tensor) -> Tensor:
        """Returns the deployed model's logits."""
        with torch.no_grad():
            return self.model(x)

    def forget(self) -> None:
        """Clears what an adaptive rule remembers, as a new batch needs."""
        forget(self.source)

    def keep(self, rows: Tensor) -> None:
        """Tells an adaptive rule that only these samples go on, in this order."""
        keep_samples(self.source, rows)

    def gradient(self, x: Tensor, losses: Callable[[Tensor], Tensor], *, per_step: bool) -> Any:
        """Returns the source's mean logits, the losses, and their gradient at the input."""
        # A row alone takes other kernels, whose sums round otherwise: bits would depend on company.
        alone = len(x) == 1
        if alone:
            x = x.repeat(2, *[1] * (x.dim() - 1))
            self.keep(torch.zeros(2, dtype=torch.int64, device=x.device))
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            answers = self._steps(x) if per_step else self.source(x)
            answers = answers.narrow(-2, 0, 1) if alone else answers
            logits = answers.mean(0) if per_step else answers
            loss = losses(answers)
            if not loss.requires_grad:
                raise Refusal(
                    f"the gradient of {type(self.source).__name__} does not reach its input; a "
                    "gradient attack needs one; choose a gradient rule, or a black-box search"
                )
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        if alone:
            self.keep(torch.zeros(1, dtype=torch.int64, device=x.device))
            gradient = gradient[:1]
        return logits.detach(), loss.detach(), gradient

    def _steps(self, x: Tensor) -> Tensor:
        steps = getattr(self.source, "steps", None)
        if not callable(steps):
            raise Refusal(
                f"{type(self.source).__name__} has no method steps(x); a loss per time step needs "
                "logits (T, B, K); add it, or choose another loss"
            )
        return steps(x)


def stochastic(model: nn.Module) -> bool:
    """Returns whether the network draws fresh noise at every call (``spiking.drawing_from``)."""
    return bool(_noisy(model))


def _noisy(model: nn.Module) -> list[Encode | Gate]:
    return [m for m in model.modules() if isinstance(m, Encode | Gate) and m.noisy]


def _owned(model: nn.Module) -> nn.Module:
    return drawing_from(model, torch.Generator()) if stochastic(model) else model


@contextmanager
def under_attack(model: nn.Module) -> Iterator[nn.Module]:
    """Puts the model into eval mode with frozen weights, and proves afterwards that it is whole.

    Modes and ``requires_grad`` come back as they were; a changed weight or buffer is an error.
    """
    before = fingerprint(model)
    with frozen(model):
        yield model
    if fingerprint(model) != before:
        raise RuntimeError("the attack changed a weight or a buffer of the model")


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Puts the model into eval mode with frozen weights, and gives both back as they were."""
    modes = {module: module.training for module in model.modules()}
    learning = {p: p.requires_grad for p in model.parameters()}
    model.eval()
    try:
        for parameter in learning:
            parameter.requires_grad = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, learns in learning.items():
            parameter.requires_grad = learns


def fingerprint(model: nn.Module) -> str:
    """Returns the SHA-256 of all weights and buffers."""
    seal = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        seal.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        seal.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return seal.hexdigest()


def identity(model: nn.Module) -> str:
    """Returns the SHA-256 of a whole network: its state, and all that it prints of itself.

    Constants of neurons and encoders are no part of the state; layers print them.
    """
    printed = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
    return hashlib.sha256(f"{fingerprint(model)}\n{printed}".encode()).hexdigest()
