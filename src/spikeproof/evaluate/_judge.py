"""The judge: it believes no attack, clips nothing, and asks the deployed model itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikeproof.attacks import Threat, Victim, correct, stochastic
from spikeproof.errors import Refusal
from spikeproof.seeding import derive

VOTES = 20  # of a network that draws noise: most fresh draws decide


@dataclass(frozen=True, eq=False)
class Verdict:
    """What holds of each proposed input, (B,) booleans."""

    admissible: Tensor  # within budget and range
    finite: Tensor
    fooled: Tensor  # the deployed model answers wrongly; a tie is wrong

    @property
    def broken(self) -> Tensor:
        """Whether the sample counts as broken."""
        return self.admissible & self.finite & self.fooled


def judge(
    model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor, threat: Threat, *, batch: int
) -> Verdict:
    """Returns what is true of ``x_adv``, by a fresh fp32 forward pass of the deployed model.

    Every pass has exactly ``batch`` rows, the last one filled with copies, so that a size other
    than the attack's own shows what depended on it.
    """
    if x_adv.shape != x.shape:
        raise Refusal(
            f"proposed inputs have the shape {tuple(x_adv.shape)} and clean ones "
            f"{tuple(x.shape)}; an attack changes values only; return one input per sample"
        )
    if not len(x):
        return Verdict(*(torch.zeros_like(y, dtype=torch.bool) for _ in range(3)))
    x_adv, x = x_adv.detach().float(), x.float()
    answers = list(_answers(model, x_adv, batch))
    wrong = sum((~correct(logits, y) for logits in answers), torch.zeros_like(y))
    return Verdict(
        admissible=threat.admits(x_adv, x),
        finite=x_adv.flatten(1).isfinite().all(1),
        # NaN pixels give finite logits in a spiking net; they are no success, whatever it answers
        fooled=2 * wrong > len(answers),
    )


def taken_for(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    """Returns the class that stands first beside the label, in most draws, (B,)."""
    answers = list(_answers(model, x_adv.detach().float(), 1))
    votes = torch.zeros_like(answers[0])
    for logits in answers:
        other = logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
        votes.scatter_add_(1, other, torch.ones_like(other, dtype=votes.dtype))
    return votes.argmax(1)


def _answers(model: nn.Module, x: Tensor, batch: int) -> Iterator[Tensor]:
    """Yields the logits of a fresh fp32 pass, or of several where the model draws noise."""
    victim = Victim(model)
    for vote in range(VOTES if stochastic(model) else 1):
        victim.redraw(derive(vote, "judge"))  # the same noise for every sample and every attack
        yield torch.cat([_logits(victim, part, batch) for part in x.split(batch)])


def _logits(victim: Victim, x: Tensor, batch: int) -> Tensor:
    count = len(x)
    filled = x[torch.arange(batch, device=x.device) % count]
    with _exact(x.device):
        return victim.logits(filled)[:count]


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
