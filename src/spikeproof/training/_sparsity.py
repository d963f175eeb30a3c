"""SR: the sparsity of the input gradient as a penalty (Liu et al., ICML 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeproof.errors import Refusal, within
from spikeproof.training._penalties import Pass

SMALLEST = 1e-30  # a gradient of zeros has no direction


@dataclass(frozen=True)
class SR:
    """``lamb mean(((f(x + h v) - f(x)) / h)^2)``, a finite difference along the input gradient.

    ``f = sigmoid(z_y - z_j)`` is the probability of the label against its rival j, the best other
    class at x. With ``v`` the sign of f's input gradient and smooth neurons, the difference tends
    to the squared l1 norm of that gradient, which stands in for the count of its non-zeros; with
    ``norm="l2"``, v is the gradient over its length and the limit is the squared l2 norm. What
    spikes compute is a step function: there is no limit, and h says which jumps count. ``x + h v``
    may leave the range of the input. ``lamb = 0`` costs nothing.
    """

    lamb: float = 0.1
    h: float = 0.01
    norm: Literal["l1", "l2"] = "l1"
    kind: Literal["sr"] = "sr"

    def __post_init__(self) -> None:
        within("lamb", self.lamb, 0, 1e6)
        within("h", self.h, 1e-6, 1)

    def __call__(self, seen: Pass) -> Tensor:
        if self.lamb == 0:
            return seen.logits.new_zeros(())
        if torch.is_autocast_enabled(seen.x.device.type):
            raise Refusal(
                f"precision is {torch.get_autocast_dtype(seen.x.device.type)} and the penalty is "
                "sr; a small difference of two passes needs all digits; use precision float32"
            )
        label = seen.y[:, None]
        rival = seen.logits.detach().scatter(1, label, -torch.inf).argmax(1, keepdim=True)
        f = _sureness(seen.logits, label, rival)
        (gradient,) = torch.autograd.grad(f.sum(), seen.x, retain_graph=True)
        with seen.again():
            moved = _sureness(
                seen.model(seen.x.detach() + self.h * self._along(gradient)), label, rival
            )
        return self.lamb * ((moved - f) / self.h).square().mean()

    def _along(self, gradient: Tensor) -> Tensor:
        if self.norm == "l1":
            return gradient.sign()
        length = gradient.flatten(1).norm(dim=1).clamp_min(SMALLEST)
        return gradient / length.reshape(-1, *[1] * (gradient.dim() - 1))


def _sureness(logits: Tensor, label: Tensor, rival: Tensor) -> Tensor:
    return (logits.gather(1, label) - logits.gather(1, rival)).squeeze(1).sigmoid()
