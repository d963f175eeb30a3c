from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from spikeproof.interop import adopt, adopt_or_lend
from spikeproof.interop._norse import Dynamics
from spikeproof.seeding import isolated
from spikeproof.spiking import ASSG, seen_through
from tests.interop.networks import close, currents, fired, framework, gradient, samples
from tests.oracles import foreign

pytestmark = pytest.mark.interop


def neuron(kind, **p):
    made = type(kind, (nn.Module,), {})()
    made.dt = 0.001
    made.p = types.SimpleNamespace(**{k: torch.tensor(v) for k, v in p.items()})
    made.p.reset_method = lambda z, v, reset, _: (1 - z) * v + z * reset
    return made


def test_every_step_is_the_published_one_bit_for_bit():
    x = 6 * currents(3)
    volts = {"v_leak": 0.1, "v_th": 0.8, "v_reset": -0.2}
    told = {"leak": 0.1, "theta": 0.8, "rest": -0.2, "dt": 0.001, "mem": 100.0}
    lif = neuron("LIF", tau_mem_inv=100.0, tau_syn_inv=200.0, **volts)
    same(lif, x, foreign.norse_lif(x.numpy(), syn=200.0, **told), whole=True)
    cell = neuron("LIFCell", tau_mem_inv=100.0, tau_syn_inv=200.0, **volts)
    same(cell, x, foreign.norse_lif(x.numpy(), syn=200.0, **told), whole=False)
    box = neuron("LIFBoxCell", tau_mem_inv=100.0, **volts)
    same(box, x, foreign.norse_box(x.numpy(), **told), whole=False)
    iaf = neuron("IAFCell", v_th=5.0, v_reset=-0.2)
    same(iaf, x, foreign.norse_iaf(x.numpy(), theta=5.0, rest=-0.2), whole=False)


def same(theirs, x, expected, *, whole):
    with torch.no_grad():
        spikes = fired(Dynamics(theirs), x, whole=whole)
    assert 0.05 < expected.mean() < 0.9
    assert torch.equal(spikes, torch.from_numpy(expected))


class Net(nn.Module):
    """A sequence of layers and neurons, of a step or of whole trains."""

    def __init__(self, make):
        super().__init__()
        norse = framework("norse.torch")
        with isolated(0):
            self.linear = [nn.Linear(6, 40), nn.Linear(40, 30), nn.Linear(30, 4)]
            first, second = make(), make()
        self.whole = type(first).__name__ in ("LIF", "IAF")
        lift = norse.Lift if self.whole else lambda layer: layer
        a, b, c = map(lift, self.linear)
        self.net = norse.SequentialState(a, first, b, second, c)

    def forward(self, x):
        if self.whole:
            return self.net((30 * x).expand(6, -1, -1))[0].mean(0)
        out, state = 0, None
        for _ in range(6):
            logits, state = self.net(30 * x, state)
            out = out + logits
        return out / 6


def makes():
    norse = framework("norse.torch")
    low = torch.as_tensor(0.3)
    p = norse.LIFParameters(v_th=low)
    yield lambda: norse.LIFCell(p)
    yield lambda: norse.LIF(p)
    yield lambda: norse.LIFCell(
        norse.LIFParameters(v_th=low, method="triangle", alpha=torch.as_tensor(0.5))
    )
    yield lambda: norse.LIFBoxCell(norse.LIFBoxParameters(v_th=low, v_reset=torch.as_tensor(-0.1)))
    yield norse.IAFCell


def test_its_networks_answer_the_same_and_keep_their_gradient():
    x = samples()
    for make in makes():
        net = Net(make).eval()
        ours = adopt(net, [x, x[:7]])
        told = ours.adoption
        assert (told.replaced, told.kept, told.apart) == (("net.1", "net.3"), {}, 0.0)
        assert told.leftover == ()
        # Its surrogate is asked itself, so that one which ignores its alpha does so here.
        close(gradient(net, x), gradient(ours, x))
        ours.requires_grad_(False)
        assert gradient(seen_through(ours, ASSG()), x).abs().max() > 0


def test_recurrent_neurons_stay_with_the_gradient_they_have():
    norse, x = framework("norse.torch"), samples()

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            with isolated(0):
                self.cell, self.out = norse.LIFRecurrentCell(6, 30), nn.Linear(30, 4)

        def forward(self, x):
            out, state = 0, None
            for _ in range(4):
                s, state = self.cell(30 * x, state)
                out = out + self.out(s)
            return out

    net = Recurrent().eval()
    ours = adopt_or_lend(net, [x])
    told = ours.adoption
    assert (told.replaced, told.lent, told.own) == ((), (), ("cell",))
    assert "1 with the gradient they have" in str(told)
    close(gradient(net, x), gradient(ours, x))
