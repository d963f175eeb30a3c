from __future__ import annotations

import pytest
import torch

from spikeproof.errors import Refusal
from spikeproof.models import MLP, Setting, build
from spikeproof.spiking import IF
from spikeproof.training import TGO, CrossEntropy, penalised
from tests.training.robust import images


def one_neuron(current: float) -> torch.nn.Module:
    """Neurons that all get this current, at every step: T = 3, threshold 1."""
    model = build(MLP((2,)), Setting(channels=1, size=8, classes=3, T=3, neuron=IF())).eval()
    with torch.no_grad():
        model.layers[1].weight.zero_()
        model.layers[1].bias.fill_(current * (1 + model.layers[2].eps) ** 0.5)
    return model.double()


@pytest.mark.parametrize(
    ("current", "membranes"),
    [(0.4, (0.4, 0.8, 1.2)), (0.6, (0.6, 1.2, 0.6)), (3.0, (3.0, 3.0, 3.0))],
)
def test_by_hand(current, membranes):
    x, y = images()
    model = one_neuron(current)
    added = penalised(CrossEntropy(), [TGO(2.0, 0.5)])(model, x, y) - CrossEntropy()(model, x, y)
    by_hand = 2 * sum(max(0, 0.5 - abs(u - 1)) for u in membranes) / 3
    assert added.item() == pytest.approx(by_hand, abs=1e-6)


def test_descending_it_moves_membranes_away_from_the_threshold():
    x, y = images()
    model = one_neuron(0.45).train()
    model.layers[2].eval()
    objective = penalised(lambda net, x, y, seed: net(x).sum() * 0, [TGO(1.0, 0.5)])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(objective(model, x, y, 0))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("knobs", [{"lamb": -1}, {"delta": 0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refusal):
        TGO(**knobs)
