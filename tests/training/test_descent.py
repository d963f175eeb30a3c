from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.training import SGD, Adam, AdamW
from spikeproof.training._descent import descent


@pytest.mark.parametrize("knobs", [SGD(0.1, 0.9, 0.01), Adam(0.1, (0.5, 0.6), 0.01), AdamW(0.1)])
def test_every_knob_reaches_its_optimizer(knobs: SGD | Adam | AdamW):
    made = descent(knobs, [nn.Parameter(torch.ones(2))])
    assert type(made) is getattr(torch.optim, type(knobs).__name__)
    for name in ("lr", "weight_decay", "momentum", "nesterov", "betas"):
        if hasattr(knobs, name):
            assert made.param_groups[0][name] == getattr(knobs, name), name


def test_two_steps_of_momentum_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    made = descent(SGD(0.1, 0.5), [weight])
    for wanted in (0.8, 0.5):  # velocity 2, then 1 + 2
        made.zero_grad()
        (2 * weight.sum()).backward()
        made.step()
        assert weight.item() == pytest.approx(wanted)
