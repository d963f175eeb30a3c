from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spikeproof.attacks import JUDGED, L0, Flips, Linf, region
from spikeproof.errors import Refusal
from spikeproof.models import CNN, MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import BPTR, BPTT, LIF, Frames, certified_margins
from spikeproof.training import SIBP

NET = Setting(channels=1, size=4, classes=3, T=2, neuron=LIF())


def lively(model):
    """A network whose neurons fire."""
    net = build(model, NET, 3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    return net.train()


def batch():
    x = torch.rand((12, 1, 4, 4), generator=generator(0, "sibp"))
    return x, torch.arange(12) % 3


def test_the_worst_case_costs_more_than_any_attack_reaches():
    net, (x, y), threat = lively(CNN((3,), 6)), batch(), Linf(0.05)
    net(x)
    net.eval()
    worst = SIBP(threat, kappa=1.0)(net, x, y)
    draw = generator(1, "attack")
    for made in (threat.random, threat.corner):
        other = made(x, lambda shape: torch.rand((12, *shape), generator=draw))
        assert cross_entropy(net(other), y) <= worst
    assert worst > cross_entropy(net(x), y)
    mixed = SIBP(threat, kappa=0.25)(net, x, y)
    torch.testing.assert_close(mixed, 0.75 * cross_entropy(net(x), y) + 0.25 * worst)


def test_a_larger_budget_costs_more():
    net, (x, y) = lively(MLP((8,))).eval(), batch()
    costs = [SIBP(Linf(eps), kappa=1.0)(net, x, y).item() for eps in (0, 0.02, 0.1, 0.5)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


@pytest.mark.parametrize("rule", [BPTT(), BPTT(detach_reset=True)], ids=["reset", "detached"])
def test_descent_proves_more_samples(rule):
    net, (x, y) = build(MLP((24,)), Setting(1, 4, 3, 2, LIF(rule=rule)), 1), batch()

    def proved():
        lower = certified_margins(net, region(x.double(), Linf(0.03), JUDGED), y)
        return int(((lower > 0).sum(1) == 2).sum())

    before, objective = proved(), SIBP(Linf(0.03), kappa=1.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        objective(net.train(), x, y).backward()
        optimizer.step()
    assert proved() > max(before, 6)


def test_norms_learn_the_clean_batch_once():
    (x, y), nets = batch(), [build(MLP((8,)), NET, 3) for _ in range(2)]
    SIBP(Linf(0.1))(nets[0].train(), x, y)
    nets[1].train()(x)
    for (name, one), other in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_events_and_few_pixels_are_trained_on_too():
    frames = build(MLP((8,)), Setting(1, 4, 3, 2, LIF(), Frames()), 0)
    x = (torch.rand((6, 2, 1, 4, 4), generator=generator(0, "events")) < 0.3).float()
    y = torch.arange(6) % 3
    for net, inputs, threat in ((frames, x, Flips(2)), (build(MLP((8,)), NET, 0), x[:, 0], L0(2))):
        loss = SIBP(threat)(net, inputs, y)
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


def test_what_has_no_bounds_is_refused():
    x, y = batch()
    with pytest.raises(Refusal, match="Flatten is no SpikingNetwork"):
        SIBP()(nn.Flatten(), x, y)
    other = build(MLP((8,)), Setting(1, 4, 3, 2, LIF(rule=BPTR())), 0)
    with pytest.raises(Refusal, match="bptt"):
        SIBP()(other, x, y)
    with pytest.raises(Refusal, match="kappa"):
        SIBP(kappa=1.5)
