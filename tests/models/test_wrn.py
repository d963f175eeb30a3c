from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.models import WRN, Setting, analog_twin, build, prunable_weights
from spikeproof.seeding import generator


def weights_by_hand(depth, k, classes):
    blocks, total, inputs = (depth - 4) // 6, 3 * 16 * 9, 16
    for base in (16, 32, 64):
        outputs = base * k
        for block in range(blocks):
            total += 9 * inputs * outputs + 9 * outputs * outputs
            total += inputs * outputs if block == 0 else 0
            inputs = outputs
    return total + inputs * classes


@pytest.mark.parametrize(("depth", "classes"), [(16, 10), (28, 100)])
def test_weights_are_those_of_the_paper(depth, classes):
    net = build(WRN(depth, 4), Setting(T=1, classes=classes))
    assert prunable_weights(net) == weights_by_hand(depth, 4, classes)
    assert all(m.bias is None for m in net.modules() if isinstance(m, nn.Conv2d))


def test_wrn_28_4_for_ten_classes_has_the_weights_counted_by_its_authors():
    net = build(WRN(28, 4), Setting(T=1))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(5.85e6, rel=0.002)


def test_shortcut_and_branch_merge_by_two_learned_halves():
    net = build(WRN(10, 2, width=0.25), Setting(T=2, size=8))
    merges = [p for name, p in net.named_parameters() if name.endswith("merge")]
    assert [m.tolist() for m in merges] == [[0.5, 0.5]] * 3
    net(torch.rand(2, 3, 8, 8, generator=generator(0))).sum().backward()
    assert any(m.grad.abs().sum() > 0 for m in merges)


@pytest.mark.parametrize("depth", [4, 9, 17, -2])
def test_other_depths_are_refused(depth):
    with pytest.raises(Refusal, match="16 or 28"):
        WRN(depth)


def test_a_network_as_narrow_as_its_stem_still_runs():
    setting = Setting(T=3, size=8)
    net = build(WRN(16, 1, width=0.5), setting)
    twin = build(WRN(16, 1, width=0.5), analog_twin(setting))
    assert (
        net(torch.rand(2, 3, 8, 8, generator=generator(0))).shape
        == twin(torch.rand(2, 3, 8, 8, generator=generator(0))).shape
        == (2, 10)
    )


@pytest.mark.parametrize(
    "knobs", [{"depth": 1006}, {"depth": 6_000_000_004}, {"widen": 0}, {"widen": 65}]
)
def test_monstrous_depths_and_widths_are_refused(knobs):
    with pytest.raises(Refusal, match=f"is {next(iter(knobs.values()))}; "):
        WRN(**knobs)
