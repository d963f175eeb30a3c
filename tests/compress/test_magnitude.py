from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from spikeproof.compress import Gradual, Magnitude, masks_of, prunable
from spikeproof.compress._magnitude import cubic
from spikeproof.errors import Refusal
from tests.compress.descent import descend, network
from tests.oracles import pruning


@pytest.mark.parametrize("kappa", [0.0, 0.5, 0.9, 0.99])
def test_the_largest_of_each_layer_stay(kappa):
    model = network()
    masks = Magnitude(kappa).masks(model)
    for name, weight in prunable(model).items():
        wanted = pruning.magnitude(weight.detach().numpy(), kappa)
        assert np.array_equal(masks.kept[name].numpy(), wanted)


def test_asking_for_masks_changes_nothing():
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Magnitude(0.9, "lamp").masks(model)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_the_cubic_rises_from_nothing_to_all_and_fastest_at_first():
    values = [cubic(share) for share in np.linspace(0, 1, 11)]
    assert values[0] == 0
    assert values[-1] == 1
    assert values[5] == 0.875
    assert (np.diff(np.diff(values)) < 0).all()


def test_gradual_pruning_follows_the_cubic_and_never_turns_back():
    model = network()
    method = Gradual(0.9, begin_at=0.1, end_at=0.8, every=3)
    hold = method.hold(50, 1)
    assert method.begin(model).density == 1
    seen = []

    def watched(net, optimizer, step):
        hold(net, optimizer, step)
        seen.append(masks_of(net))

    descend(model, watched, 50)
    total = sum(w.numel() for w in prunable(model).values())
    for step, masks in enumerate(seen):
        due = max((s for s in [*range(5, 40, 3), 40] if s <= step), default=5)
        gone = 0.9 * (1 - (1 - (due - 5) / 35) ** 3)
        assert masks.weights == total - int(gone * total), step
    for before, after in itertools.pairwise(seen):
        assert all((before.kept[n] | ~m).all() for n, m in after.kept.items())
    assert method.end(model).weights == total - int(0.9 * total)


def test_impossible_times_are_refused():
    with pytest.raises(Refusal, match="rising shares of the steps"):
        Gradual(begin_at=0.5, end_at=0.5)
    with pytest.raises(Refusal, match="every of gradual"):
        Gradual(every=0)
