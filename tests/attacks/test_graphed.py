from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from spikeproof.attacks._graphed import Graphed, bucket, padded
from spikeproof.attacks._victim import Victim, frozen
from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import IF, RGA

GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")],
)


def test_the_sizes_waste_at_most_half():
    sizes = [bucket(rows) for rows in range(1, 50)]
    assert sorted(set(sizes)) == [2, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    for rows, size in enumerate(sizes, 1):
        assert size >= max(rows, 2)
        assert rows < 2 or size <= max(1.5 * rows, rows + 1)


def test_the_last_row_is_repeated():
    x = torch.arange(6.0).view(3, 2)
    assert torch.equal(padded(x, 5), x[[0, 1, 2, 2, 2]])
    assert padded(x, 3) is x


def test_a_size_is_recorded_once():
    seen, source = [], generator(1, "graphed")

    def function(x, y):
        seen.append(len(x))
        return x + y, x * y

    graphed = Graphed(function)
    for rows in (9, 10, 12, 5, 6, 1):
        x, y = torch.randn(2, rows, 3, generator=source)
        a, b = graphed(x, y)
        assert torch.equal(a, x + y)
        assert torch.equal(b, x * y)
    assert seen == [12, 12, 12, 6, 6, 2]
    assert len(graphed.recorded) == 3


@pytest.mark.parametrize("rule", [None, RGA()], ids=["own", "rga"])
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_padding_changes_no_bit_of_the_others(device, rule):
    model = build(CNN((4, 8), 16), Setting(1, 8, 4, T=4, neuron=IF(theta=0.2))).to(device)
    x = torch.rand(7, 1, 8, 8, generator=generator(0, "graphed")).to(device)
    y = torch.arange(7, device=device) % 4

    def gradient(x, y):
        return victim.gradient(
            x, lambda logits: functional.cross_entropy(logits, y, reduction="none"), per_step=False
        )

    with frozen(model):
        victim = Victim(model, rule)
        graphed = Graphed(gradient)
        for rows in (7, 5, 3, 2):
            for a, b in zip(graphed(x[:rows], y[:rows]), gradient(x[:rows], y[:rows]), strict=True):
                assert torch.equal(a, b)
            assert graphed(x[:rows], y[:rows])[2].abs().max() > 0
