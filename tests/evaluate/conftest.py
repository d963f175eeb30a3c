from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.data import Dataset, Split, digits
from spikeproof.evaluate import _evaluate
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.training import Adam, CrossEntropy, Plan, fit, measure


class Linear(nn.Module):
    """Two classes over four pixels, with weights that make every sum exact."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -1.0, 0.5, -0.5], [-1.0, 1.0, -0.5, 0.5]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T


@pytest.fixture(autouse=True)
def _no_doubts(request, monkeypatch):
    """Probing a model takes seconds; the tests of doubts ask for it by name."""
    if "doubtful" not in request.keywords:
        made = _evaluate._doubted
        monkeypatch.setattr(
            _evaluate, "_doubted", lambda e, checks, **k: made(e, checks or (), **k)
        )


@pytest.fixture
def linear() -> nn.Module:
    return Linear().eval()


@pytest.fixture(scope="session")
def points() -> Split:
    """Samples of the linear model, one in eight labelled wrongly."""
    x = torch.randint(0, 256, (41, 1, 2, 2), generator=generator(0, "points")) / 256
    y = Linear()(x).argmax(1)
    y[::8] = 1 - y[::8]
    return Split(x, y, 1.0)


@pytest.fixture(scope="session")
def handwriting() -> Dataset:
    return digits()


@pytest.fixture(scope="session")
def net(handwriting: Dataset, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """A small spiking network, trained in two seconds."""
    model = build(MLP((32,)), Setting(channels=1, size=8, T=4), 0)
    plan = Plan(epochs=3, batch=64, optimizer=Adam(0.01))
    folder = tmp_path_factory.mktemp("net") / "run"
    fit(
        model,
        handwriting.train,
        CrossEntropy(),
        plan,
        folder,
        validate=lambda network: measure(network, handwriting.validation),
    )
    return model.eval()
