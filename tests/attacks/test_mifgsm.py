from __future__ import annotations

import torch

from spikeproof.attacks import CE, MIFGSM, Linf, Standing, Victim


class Asked(torch.nn.Module):
    """Answers rightly for ever, with gradients that follow a script."""

    def __init__(self, script):
        super().__init__()
        self.script, self.seen = list(script), []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        slope = self.script[min(len(self.seen), len(self.script)) - 1]
        height = (x.flatten(1) * slope).sum(1)
        # Cross entropy of class 0 rises with `height`; the label stays far ahead.
        return torch.stack([-height + 50, torch.zeros_like(height)], 1) / 4


def test_momentum_sums_gradients_of_mean_size_one():
    first, second = torch.tensor([3.0, -1.0]), torch.tensor([-1.0, -1.0])
    model = Asked([first, second])
    x = torch.full((1, 2), 0.5)
    y = torch.zeros(1, dtype=torch.int64)
    s = Standing(Victim(model), x, y, Linf(0.4), CE(), torch.tensor([1]))
    MIFGSM(steps=2, decay=0.9)(s)
    # (3, -1)/2 has signs (+, -); 0.9 (1.5, -.5) + (-1, -1) = (.35, -1.45) keeps them.
    assert torch.allclose(s.momentum, torch.tensor([[0.35, -1.45]]))
    assert torch.allclose(model.seen[1], torch.tensor([[0.7, 0.3]]))
    assert torch.allclose(model.seen[2], torch.tensor([[0.9, 0.1]]))
