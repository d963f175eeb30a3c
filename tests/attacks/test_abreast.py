from __future__ import annotations

import torch
from torch import nn

from spikeproof.attacks import CE, Linf, Margin
from spikeproof.attacks._abreast import Abreast, Lane


class Above(nn.Module):
    """Errs on class 0 where the first value is above a half; its loss rises with it."""

    def forward(self, x):
        height = x.flatten(1)[:, 0] - 0.5
        return torch.stack([-height, height], 1)


def lanes(number, **changed):
    given = {"attack": 0, "loss": Margin(), "rule": None, "seed": 0}
    return [Lane(**(given | changed), names=("lane", i)) for i in range(number)]


def abreast(number, samples=3, eps=0.5, **changed):
    x = torch.full((samples, 1, 1, 2), 0.4)
    y = torch.zeros(samples, dtype=torch.int64)
    return Abreast(Above(), x, y, Linf(eps), lanes(number, **changed), range(samples))


def tried(s, values):
    x = s.x.clone()
    x[:, 0, 0, 0] = torch.tensor(values)
    return x


def test_who_falls_leaves_the_lanes_behind_and_not_those_before():
    s = abreast(3)
    s.look(tried(s, [0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9]))
    assert list(zip(s.lane.tolist(), s.sample.tolist(), strict=True)) == [
        *((0, 0), (0, 1), (0, 2)),  # sample 0 fell in lane 1, and sample 2 in lane 2
        *((1, 1), (1, 2)),
        (2, 1),
    ]
    s.look(tried(s, [0.9, 0.1, 0.1, 0.1, 0.1, 0.9]))
    assert list(zip(s.lane.tolist(), s.sample.tolist(), strict=True)) == [
        *((0, 1), (0, 2)),
        *((1, 1), (1, 2)),
    ]
    outcomes, first = s.lanes()
    assert first.tolist() == [0, 2, 2]
    assert [o.at.tolist() for o in outcomes] == [[2, 0, 0], [1, 0, 0], [0, 2, 1]]
    assert [o.forwards.tolist() for o in outcomes] == [[2, 2, 2], [1, 2, 2], [1, 2, 1]]
    assert outcomes[2].x_adv[1].flatten()[0] == 0.9


def test_each_lane_has_its_loss_and_its_noise():
    s = abreast(2)
    s._lanes = [*lanes(1), *lanes(1, loss=CE())]
    _, height = s.gradient(s.x)
    margin, cross = height.unflatten(0, (2, 3))
    assert torch.allclose(margin, torch.tensor(-0.2))
    assert torch.allclose(cross, nn.functional.softplus(torch.tensor(-0.2)))
    noise = s.uniform((2,)).unflatten(0, (2, 3))
    assert len(noise.flatten().unique()) == 12
