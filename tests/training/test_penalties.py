from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import PGD, Linf
from spikeproof.errors import Refusal
from spikeproof.training import (
    MART,
    SR,
    TET,
    TRADES,
    Adversarial,
    CrossEntropy,
    Pass,
    penalised,
)
from tests.training.robust import images, network

BUDGET = {"threat": Linf(0.1), "search": PGD(2)}


def test_without_penalties_the_objective_is_itself():
    objective = CrossEntropy()
    assert penalised(objective, []) is objective


@pytest.mark.parametrize(
    ("objective", "times"),
    [
        (CrossEntropy(), 1),
        (TET(0.1), 1),
        (Adversarial(**BUDGET), 1),
        (TRADES(**BUDGET), 2),
        (MART(**BUDGET), 2),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_penalty_sees_the_pass_of_the_loss(objective, times):
    model, (x, y) = network(), images()
    seen: list[Pass] = []

    def heard(made: Pass):
        seen.append(made)
        return made.logits.sum() * 0 + 3

    loss = penalised(objective, [heard, heard])(model, x, y, 4)
    torch.testing.assert_close(loss, objective(network(), x, y, 4) + 6)
    assert len(seen) == 2
    assert seen[0].x.requires_grad
    assert seen[0].x.shape == (times * len(x), *x.shape[1:])
    assert torch.equal(seen[0].y, y.repeat(times))
    torch.testing.assert_close(seen[0].logits, network()(seen[0].x))
    (slope,) = torch.autograd.grad(seen[0].logits.sum(), seen[0].x)
    assert slope.abs().sum() > 0


def test_an_objective_of_two_passes_is_refused():
    def twice(model, x, y, seed):
        return model(x).sum() + model(x).sum()

    with pytest.raises(Refusal, match="makes 2 passes"):
        penalised(twice, [SR()])(network(), *images())
