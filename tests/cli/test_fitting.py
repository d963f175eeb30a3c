from __future__ import annotations

import pytest
import torch
from rich.console import Console

from spikeproof.catalogue import Network, Recipe, load_network, read_data
from spikeproof.cli._fitting import Run, _handed_out, train_once
from spikeproof.compress import Gradual, Hydra, kept_count, masks_of, prunable
from spikeproof.models import CNN
from spikeproof.spiking import IF
from spikeproof.training import SGD, Plan
from tests.compress.descent import descend, learning


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    recipe = Recipe(CNN(), Plan(1, 32, SGD(0.1)))
    return read_data(recipe, tmp_path_factory.mktemp("none"))


def recipe(**knobs):
    return Recipe(
        CNN((4,), 8),
        Plan(2, 64, SGD(0.1, 0.9)),
        network=Network(T=2, neuron=IF(theta=0.3)),
        **knobs,
    )


def test_what_validation_selects_is_what_is_returned(dataset, tmp_path):
    run = Run(dataset, torch.device("cpu"), Console(quiet=True), resume=False)
    network, result = train_once(recipe(), tmp_path, run)
    assert not network.training
    x, _ = dataset.test.batch(torch.arange(6))
    assert torch.equal(network(x), load_network(tmp_path)(x))
    assert result.keys() == {"steps", "selected_epoch", "validation", "test", "minutes_of_training"}


def test_pruning_hands_out_the_sparsity_that_it_promises(dataset, tmp_path):
    """Though the best epoch may be one at which a gradual one had more weights left."""
    run = Run(dataset, torch.device("cpu"), Console(quiet=True), resume=False)
    method = Gradual(0.9, begin_at=0.7, end_at=1.0, every=5)
    network, result = train_once(recipe(prune=method), tmp_path, run)
    total = sum(w.numel() for w in prunable(network).values())
    assert masks_of(network).weights == kept_count(total, 0.9)
    assert result["density"] == kept_count(total, 0.9) / total
    assert masks_of(load_network(tmp_path / "pruned")).digest() == masks_of(network).digest()


def test_what_would_be_handed_out_is_looked_at_without_a_trace():
    model = learning().eval()
    method = Hydra(0.7)
    method.begin(model)
    descend(model.train(), method.hold(3, 1), 3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    out = _handed_out(model.eval(), method)
    assert torch.equal(out(x), model(x))
    assert masks_of(out).density < 0.35
    assert all(torch.equal(state[n], v) for n, v in model.state_dict().items())
    assert _handed_out(model, None) is model
