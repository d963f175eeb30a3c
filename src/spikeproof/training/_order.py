"""In which order samples come, and in which batches."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.seeding import generator
from spikeproof.training._plan import Plan


def batches(samples: int, plan: Plan, epoch: int) -> tuple[Tensor, ...]:
    """Returns the indices of every batch of this epoch; all samples come, each once.

    A single sample that would be left over joins the last batch: a norm needs two.
    """
    order = torch.randperm(samples, generator=generator(plan.seed, "order", epoch))
    parts = list(order.split(plan.batch))
    if len(parts) > 1 and len(parts[-1]) == 1 < plan.batch:
        parts[-2:] = [torch.cat(parts[-2:])]
    return tuple(parts)
