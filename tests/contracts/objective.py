"""What every objective owes, so that what is reported as its loss is its loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeproof.attacks import PGD, Linf
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import IF, smoothed
from spikeproof.training import CrossEntropy, penalised


def assert_objective(objective: Any, clean: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
    """Asserts a finite scalar, its gradient, its clean limit, and a network left as it was.

    ``clean`` is what the objective comes to where nothing may change. The network's neurons are
    smooth, so that its gradient is the derivative of what it computes.
    """
    x, y = _batch()
    network = _network()
    if hasattr(objective, "threat"):  # smooth neurons have one gradient, and no rule
        knobs = {"search": PGD(2), "rules": (None,), "rule": None}  # as far as it has them
        knobs = {name: value for name, value in knobs.items() if hasattr(objective, name)}
        objective = dataclasses.replace(objective, threat=Linf(0.1), **knobs)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    loss = objective(network, x, y, 3)
    assert loss.dim() == 0
    assert torch.isfinite(loss)
    assert torch.equal(objective(network, x, y, 3), loss), "chance has a seed"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert_gradient(lambda: objective(network, x, y, 3), network)
    if hasattr(objective, "threat"):
        objective = dataclasses.replace(objective, threat=Linf(0.0))
    for training in (False, True):
        alone = _network().train(training)
        torch.testing.assert_close(objective(_network().train(training), x, y), clean(alone, x, y))


def assert_penalty(penalty: Any) -> None:
    """Asserts its gradient, that more of it costs more, and that none of it costs nothing."""
    x, y = _batch()
    network = _network()
    alone = CrossEntropy()(network, x, y)
    added = [
        penalised(CrossEntropy(), [dataclasses.replace(penalty, lamb=lamb)])(network, x, y) - alone
        for lamb in (0.0, 1.0, 3.0)
    ]
    assert added[0] == 0
    assert added[1] > 0
    assert added[2].item() == pytest.approx(3 * added[1].item())
    whole = penalised(CrossEntropy(), [penalty])
    assert_gradient(lambda: whole(network, x, y, 3), network)
    passes: list[int] = []
    network.register_forward_hook(lambda *_: passes.append(1))
    penalised(CrossEntropy(), [dataclasses.replace(penalty, lamb=0.0)])(network, x, y)
    assert passes == [1]


def assert_gradient(loss: Callable[[], Tensor], network: nn.Module) -> None:
    """Asserts that the gradient of the weights is that of central differences."""
    loss().backward()
    slopes = []
    for parameter in network.parameters():
        assert parameter.grad is not None
        flat, gradient = parameter.detach().reshape(-1), parameter.grad.reshape(-1)
        for place in {0, len(flat) // 2, int(gradient.abs().argmax())}:
            values, own = [], flat[place].item()
            for change in (1e-6, -1e-6):
                flat[place] = own + change
                values.append(loss().item())
            flat[place] = own
            slopes.append(gradient[place].item())
            found = (values[0] - values[1]) / 2e-6
            assert found == pytest.approx(slopes[-1], rel=2e-4, abs=2e-8)
        parameter.grad = None
    assert max(map(abs, slopes)) > 1e-3


def _network() -> nn.Module:
    setting = Setting(channels=1, size=2, classes=3, T=3, neuron=IF(theta=0.4))
    network = smoothed(build(MLP((5,)), setting, 0).double())
    network.train()(_batch()[0])  # statistics of norms that are not those of the start
    return network.eval()


def _batch() -> tuple[Tensor, Tensor]:
    x = torch.rand((6, 1, 2, 2), generator=generator(0, "objective"), dtype=torch.float64)
    return x, torch.tensor([0, 1, 2, 0, 1, 2])
