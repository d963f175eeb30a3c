from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.interop import adopt
from spikeproof.seeding import isolated
from spikeproof.spiking import BPTT, Spiking, Triangle, seen_through
from tests.interop.networks import close, gradient, samples


class Fires(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, d):
        (u,) = ctx.saved_tensors
        return d * (1 - u.abs()).clamp_min(0)


class LIFSpike(nn.Module):
    """The layer of many papers: (B, T, ...), a spike above the threshold, a hard reset."""

    time_axis, strict, theta, tau = 1, True, 1.0, 0.5
    rule = BPTT(Triangle(1.0))

    def forward(self, x):
        u, out = 0, []
        for t in range(x.shape[1]):
            u = self.tau * u + x[:, t]
            s = Fires.apply(u - self.theta)
            u = (1 - s) * u
            out.append(s)
        return torch.stack(out, dim=1)

    def charge(self, current, state):
        u = current if state is None else self.tau * state[0] + current
        return u - self.theta, (u,)

    def reset(self, spikes, state):
        (u,) = state
        return ((1 - spikes) * u,)


class SeqLayer(nn.Module):
    """A stateless layer for every step, as such code has it."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def conv(wide, out, stride=1):
    return SeqLayer(
        nn.Conv2d(wide, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out, affine=True)
    )


class Block(nn.Module):
    """A basic block of a wide residual network, neurons first."""

    def __init__(self, wide):
        super().__init__()
        self.n1, self.c1, self.n2, self.c2 = (
            LIFSpike(),
            conv(wide, wide),
            LIFSpike(),
            conv(wide, wide),
        )

    def forward(self, x):
        return x + self.c2(self.n2(self.c1(self.n1(x))))


class Paper(nn.Module):
    """Layers of a VGG or of a WRN, in the manner of papers' code; frames repeated in time."""

    def __init__(self, kind):
        super().__init__()
        with isolated(4):
            if kind == "vgg":
                parts = [conv(1, 8), LIFSpike(), conv(8, 8), LIFSpike(), SeqLayer(nn.AvgPool2d(2))]
            else:
                parts = [conv(1, 8), Block(8), Block(8), LIFSpike(), SeqLayer(nn.AvgPool2d(2))]
            self.features = nn.Sequential(*parts)
            self.classify = SeqLayer(nn.Flatten(), nn.Linear(128, 4))
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.fill_(0.02)

    def forward(self, x):
        frames = x.view(-1, 1, 8, 8).unsqueeze(1).repeat(1, 4, 1, 1, 1)
        return self.classify(self.features(frames)).mean(1)


@pytest.mark.parametrize(("kind", "layers"), [("vgg", 2), ("wrn", 5)])
def test_layers_of_papers_adopt(kind, layers):
    net, x = Paper(kind).eval(), samples(6, 64)
    ours = adopt(net, [x])
    told = ours.adoption
    assert (len(told.replaced), told.kept, told.apart) == (layers, {}, 0.0)
    assert told.frameworks == {"by hand": ""}
    assert net(x).abs().max() > 0
    close(gradient(net, x), gradient(ours, x))
    wide = gradient(seen_through(ours, BPTT(Triangle(3.0))), x)
    assert not torch.allclose(wide, gradient(net, x))


class Stateful(nn.Module):
    """One step a call; it remembers in an attribute, and somebody may forget to clear it."""

    time_axis = None

    def __init__(self):
        super().__init__()
        self.u = None

    def forward(self, x):
        u = x if self.u is None else 0.5 * self.u + x
        s = Fires.apply(u - 0.5) + (u == 0.5).to(u.dtype)
        self.u = u - 0.5 * s
        return s

    def charge(self, current, state):
        u = current if state is None else 0.5 * state[0] + current
        return u - 0.5, (u,)

    def reset(self, spikes, state):
        return (state[0] - 0.5 * spikes,)


@pytest.mark.parametrize("clears", [True, False])
def test_a_neuron_of_a_step_forgets_between_calls(clears):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = Stateful()

        def forward(self, x):
            if clears:
                self.neuron.u = None
            return sum(self.neuron(x) for _ in range(5))[:, :4]

    net, x = Net().eval(), samples()
    ours = adopt(net, [x, x[:3]])
    assert ours.adoption.leftover == (() if clears else ("neuron",))
    assert net.neuron.u is None, "the network is left as it was found"
    assert torch.equal(ours(x), net(x))
    assert torch.equal(ours(x), ours(x))


def test_what_a_neuron_does_not_tell_has_a_default():
    net = nn.Sequential(Stateful())
    layer = next(m for m in adopt(net, [samples()]).modules() if isinstance(m, Spiking))
    assert (layer.theta, layer.tau) == (1.0, 1.0)
