from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.attacks import L2, PGD, SAPGD, Attack, Linf, Margin, run
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import ASSG
from tests.contracts.attack import COUNT, samples, small_network
from tests.oracles import ascent


class Wavy(torch.nn.Module):
    def __init__(self, seed, scale):
        super().__init__()
        source = generator(seed, "wavy")
        self.w = torch.randn(6, 12, generator=source, dtype=torch.float64) * 6
        self.scale, self.seen = scale, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        height = self.scale * torch.sin(x.flatten(1) @ self.w.T).sum(1)
        return torch.stack([20 - height, torch.zeros_like(height)], 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 1e-20], ids=["plain", "tiny gradients"])
def test_its_iterates_are_those_of_the_paper(seed, scale):
    model, steps, eps = Wavy(seed, scale), 100, 0.1
    x = torch.rand(1, 12, generator=generator(seed, "x"), dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.int64)
    run(Attack(SAPGD(steps), Margin()), model, x, y, Linf(eps), ids=torch.arange(1))
    seen, model.seen = model.seen, []

    def ask(z):
        z = torch.tensor(z)[None].requires_grad_()
        logits = model(z)
        (slope,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], z)
        return 0.0, slope[0].numpy() / scale  # every formula of the paper ignores the scale

    expected = ascent.sapgd(ask, seen[0][0].numpy(), x[0].numpy(), eps, steps)
    np.testing.assert_allclose(
        torch.cat([z[:1] for z in seen]).numpy(), np.stack(expected), atol=1e-7
    )


def test_the_start_touches_the_ball():
    model, x = Wavy(0, 1.0), torch.full((3, 12), 0.5, dtype=torch.float64)
    y = torch.zeros(3, dtype=torch.int64)
    run(Attack(SAPGD(1), Margin()), model, x, y, Linf(0.1), ids=torch.arange(3))
    reach = (model.seen[0] - x).abs().amax(1)
    torch.testing.assert_close(reach, torch.full_like(reach, 0.1), atol=1e-7, rtol=0)


def test_other_norms_are_refused():
    model, (x, y) = small_network(), samples()
    with pytest.raises(Refusal, match="does not fit the threat"):
        run(Attack(SAPGD()), model, x, y, L2(1.0), ids=torch.arange(COUNT))


def test_with_assg_it_breaks_no_fewer_than_pgd_with_the_training_surrogate():
    model, (x, y) = small_network(), samples()
    ids = torch.arange(COUNT)
    old = run(Attack(PGD(10)), model, x, y, Linf(0.06), ids=ids)
    new = run(Attack(SAPGD(100), rule=ASSG()), model, x, y, Linf(0.06), ids=ids)
    assert new.fallen.sum() >= old.fallen.sum()
