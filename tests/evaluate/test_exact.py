from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import Flips, Linf
from spikeproof.errors import Refusal
from spikeproof.evaluate import Exact
from spikeproof.evaluate._exact import exact_margins
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import Frames
from tests.oracles.certificates import flipped


@pytest.mark.parametrize("k", [0, 1, 3])
def test_the_least_margin_is_that_of_all_inputs_one_by_one(k):
    net = build(MLP((6,)), Setting(1, 2, 3, 3, encoder=Frames()), 4).eval()
    x = (torch.rand((2, 3, 1, 2, 2), generator=generator(0, "x")) < 0.5).float()
    y = torch.tensor([0, 2])
    found = exact_margins(net, x, y, Flips(k))
    for row, clean, label in zip(found, x, y.tolist(), strict=True):
        rows = []
        for other in flipped(clean.numpy(), k):
            with torch.no_grad():
                logits = net(torch.from_numpy(other)[None])[0].double()
            rows.append(logits[label] - logits)
        torch.testing.assert_close(row, torch.stack(rows).amin(0))


def test_a_sum_is_lowered_by_every_flip_that_lowers_it():
    class Sum(nn.Module):
        def forward(self, x):
            total = x.flatten(1) @ torch.tensor([3.0, 2.0, 1.0, -1.0])
            return torch.stack([total, torch.zeros_like(total)], 1)

    x = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 2, 1, 1, 2)
    for k, least in enumerate((6, 3, 1, 0, -1)):
        assert exact_margins(Sum(), x, torch.tensor([0]), Flips(k))[0].tolist() == [0, least]


@pytest.mark.parametrize(
    ("threat", "method", "told"),
    [
        (Linf(0.1), Exact(), "0 or 1"),
        (Flips(2, binary=False), Exact(), "0 or 1"),
        (Flips(4), Exact(), "inputs of 800 entries"),
    ],
    ids=["linf", "counts", "many"],
)
def test_what_cannot_be_enumerated_is_refused(threat, method, told):
    x = torch.zeros(1, 2, 1, 20, 20)
    with pytest.raises(Refusal, match=told):
        exact_margins(nn.Flatten(), x, torch.tensor([0]), threat, method)
