from __future__ import annotations

import pytest
from torch import nn

from spikeproof.compress import Hydra, prunable
from spikeproof.errors import Refusal
from spikeproof.models import (
    CNN,
    MLP,
    VGG16,
    WRN,
    Setting,
    SEWResNet,
    build,
    prunable_weights,
)
from tests.compress.descent import linear

SMALL = Setting(channels=2, size=16, classes=3, T=2)


@pytest.mark.parametrize(
    "architecture",
    [CNN((3, 4), 5), MLP((6,)), VGG16(0.02), WRN(10, 2, 0.1), SEWResNet(18, width=0.05)],
    ids=lambda a: a.kind,
)
def test_by_default_all_weights_of_layers_are_prunable_and_nothing_else(architecture):
    model = build(architecture, SMALL)
    found = prunable(model)
    assert sum(w.numel() for w in found.values()) == prunable_weights(model)
    parameters = dict(model.named_parameters())
    assert all(parameters[name] is weight for name, weight in found.items())


def test_vgg16_of_paper_b_has_so_many():
    found = prunable(build(VGG16(), Setting()))
    assert sum(w.numel() for w in found.values()) == 15_302_848
    assert len(found) == 16


def test_parts_can_be_left_dense_by_name():
    model = build(WRN(10, 2, 0.1), SMALL)
    names = list(prunable(model))
    assert "layers.0.weight" in names
    assert list(prunable(model, ["first"])) == names[1:]
    assert list(prunable(model, ["head"])) == names[:-1]
    shortcuts = {n for n in names if "shortcut" in n}
    assert len(shortcuts) == 3
    assert {*names} - {*prunable(model, ["shortcuts"])} == shortcuts


def test_under_scores_the_weight_is_still_the_one_that_is_stored():
    model = build(MLP((6,)), SMALL)
    before = prunable(model)
    Hydra().begin(model)
    after = prunable(model)
    assert all(before[name] is weight for name, weight in after.items())
    assert before.keys() == after.keys()


def test_a_model_without_layers_is_refused():
    with pytest.raises(Refusal, match="no convolution or dense layer"):
        prunable(nn.Sequential(nn.BatchNorm2d(3)))
    with pytest.raises(Refusal, match="name fewer parts"):
        prunable(linear(3, 2), ["head"])
