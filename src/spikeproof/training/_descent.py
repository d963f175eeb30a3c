"""The optimizer of a plan, as torch has it."""

from __future__ import annotations

import torch
from torch import nn

from spikeproof.training._plan import SGD, Adam, AdamW, Optimizer


def descent(knobs: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Returns the optimizer of these knobs over these parameters."""
    lr, decay = knobs.lr, knobs.weight_decay
    match knobs:
        case SGD(momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(parameters, lr, momentum, weight_decay=decay, nesterov=nesterov)
        case Adam(betas=betas):
            return torch.optim.Adam(parameters, lr, betas, weight_decay=decay)
        case AdamW(betas=betas):
            return torch.optim.AdamW(parameters, lr, betas, weight_decay=decay)
