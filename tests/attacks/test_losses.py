from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.attacks import CE, DLR, Margin, StepCE, TargetedDLR, correct, margins
from spikeproof.seeding import generator


def some(seed, classes):
    source = generator(seed, "losses")
    logits = torch.randn(6, classes, generator=source, dtype=torch.float64) * 3
    y = torch.randint(0, classes, (6,), generator=source)
    target = (y + 1 + torch.randint(0, classes - 1, (6,), generator=source)) % classes
    return logits, y, target


def formula(name, z, y, t):
    ranked = np.sort(z)[::-1]
    other = max(z[k] for k in range(len(z)) if k != y)
    if name == "ce":
        return -z[y] + np.log(np.exp(z).sum())
    if name == "margin":
        return other - z[y]
    if name == "dlr":
        return -(z[y] - other) / (ranked[0] - ranked[min(2, len(z) - 1)])
    below = (ranked[2] + ranked[3]) / 2 if len(z) > 3 else ranked[-1]
    return -(z[y] - z[t]) / (ranked[0] - below)


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 7))
@pytest.mark.parametrize("loss", [CE(), Margin(), DLR(), TargetedDLR()], ids=lambda v: v.kind)
def test_losses_are_their_formulas(loss, seed, classes):
    logits, y, target = some(seed, classes)
    expected = [
        formula(loss.kind, z, a, t)
        for z, a, t in zip(logits.numpy(), y.tolist(), target.tolist(), strict=True)
    ]
    np.testing.assert_allclose(loss(logits, y, target).numpy(), expected, rtol=1e-10)


def test_only_the_losses_with_a_boundary_say_so():
    assert not CE().signed
    assert not StepCE().signed
    assert TargetedDLR().signed


def test_a_step_loss_is_the_mean_of_the_steps():
    train = torch.randn(4, 3, 5, generator=generator(0, "steps"))
    y = torch.tensor([1, 0, 4])
    each = torch.stack([CE()(step, y, y) for step in train]).mean(0)
    torch.testing.assert_close(StepCE()(train, y, y), each)
    assert StepCE().per_step


def test_a_tie_and_nan_are_errors():
    logits = torch.tensor(
        [[1.0, 1.0, 0.0], [1.0, 0.9, 0.0], [torch.nan, 0.0, 0.0], [2.0, torch.nan, 0.0]]
    )
    y = torch.zeros(4, dtype=torch.int64)
    assert correct(logits, y).tolist() == [False, True, False, False]
    assert margins(logits, y)[:2].tolist() == pytest.approx([0.0, -0.1])
