"""Three networks of each framework, trained as its users do, and what is left of them."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.attacks import Linf
from spikeproof.data import Split, load
from spikeproof.evaluate import Conditions, Suite, evaluate, named_suite
from spikeproof.interop import adopt
from spikeproof.seeding import isolated
from tests.interop.networks import framework, jelly

pytestmark = [pytest.mark.interop, pytest.mark.slow]

EPS, FEW, T = 0.06, 48, 4


class Jelly(nn.Module):
    """Whole trains or steps, and a reset before every batch, in the loop or in the network."""

    def __init__(self, node, mode):
        super().__init__()
        self.mode = mode
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 48), node(), nn.Linear(48, 32), node(), nn.Linear(32, 10)
        )
        jelly("functional").set_step_mode(self.layers, mode)

    def forward(self, x):
        jelly("functional").reset_net(self.layers)
        first, *rest = self.layers[1:]
        current = first(x.flatten(1))
        if self.mode == "s":
            return sum(nn.Sequential(*rest)(current) for _ in range(T)) / T
        return nn.Sequential(*rest)(current.expand(T, -1, -1)).mean(0)


class Torch(nn.Module):
    """The loop of snnTorch's tutorials: states begin at rest and are passed on."""

    def __init__(self, neuron, *, read=False):
        super().__init__()
        self.read = read
        self.fc1, self.fc2 = nn.Linear(64, 48), nn.Linear(48, 10)
        self.lif1, self.lif2 = neuron(), neuron()

    def forward(self, x):
        first, second = rest(self.lif1), rest(self.lif2)
        out = 0
        for _ in range(T):
            spikes, *first = self.lif1(self.fc1(x.flatten(1)), *first)
            spikes, *second = self.lif2(self.fc2(spikes), *second)
            out = out + (second[-1] if self.read else spikes)
        return out / T


def rest(neuron):
    held = neuron.reset_mem()
    return [*held] if isinstance(held, tuple) else [held]


class Norse(nn.Module):
    """A sequence that hands its states back."""

    def __init__(self, neuron):
        super().__init__()
        norse = framework("norse.torch")
        self.layers = norse.SequentialState(
            nn.Flatten(), nn.Linear(64, 48), neuron(), nn.Linear(48, 10)
        )

    def forward(self, x):
        out, state = 0, None
        for _ in range(2 * T):
            logits, state = self.layers(10 * x, state)
            out = out + logits
        return out / (2 * T)


def spikingjelly():
    neuron, curves = jelly("neuron"), jelly("surrogate")
    yield lambda: Jelly(lambda: neuron.IFNode(surrogate_function=curves.ATan()), "m")
    yield lambda: Jelly(lambda: neuron.LIFNode(surrogate_function=curves.Sigmoid()), "s")
    yield lambda: Jelly(lambda: neuron.ParametricLIFNode(v_reset=None, detach_reset=True), "m")


def snntorch():
    snn, curves = framework("snntorch"), framework("snntorch.surrogate")
    yield lambda: Torch(lambda: snn.Leaky(beta=0.9))
    yield lambda: Torch(lambda: snn.Synaptic(0.6, 0.8, spike_grad=curves.fast_sigmoid()), read=True)
    yield lambda: Torch(lambda: snn.Leaky(beta=0.8, reset_mechanism="zero", reset_delay=False))


def norse():
    peer = framework("norse.torch")
    low = torch.as_tensor(0.3)
    yield lambda: Norse(lambda: peer.LIFCell(peer.LIFParameters(v_th=low)))
    yield lambda: Norse(lambda: peer.LIFBoxCell(peer.LIFBoxParameters(v_th=low)))
    yield lambda: Norse(peer.IAFCell)


@cache
def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    data = load("digits", Path("absent"), steps=T, validation=0.1, seed=0)
    train = data.train.batch(torch.arange(len(data.train)))
    return train, data.test.batch(torch.arange(len(data.test)))


def trained(net: nn.Module) -> nn.Module:
    (x, y), _ = digits()
    order = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(12):
        for rows in torch.randperm(len(x), generator=order).split(64):
            optimiser.zero_grad()
            functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    return net.eval()


def theirs(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which samples stand against a peer's attacks through the framework's own surrogate."""
    attacks = framework("torchattacks")
    stands = torch.ones(len(y), dtype=torch.bool)
    for attack in (attacks.PGD(net, EPS, EPS / 8, 40), attacks.APGD(net, eps=EPS, steps=40)):
        attack.set_model_training_mode(model_training=True)  # old releases have no gradient in eval
        found = attack(x, y)
        assert float((found - x).abs().max()) <= EPS + 1e-6
        with torch.no_grad():
            stands &= net.eval()(found).argmax(1) == y
    return stands


def part_of_standard(x: Tensor) -> Suite:
    """Steps of `standard`; what they break, all of it breaks, for a sample meets each by itself."""
    whole = named_suite("standard", Linf(EPS), 10, tuple(x.shape[1:]))
    steps = [s for s in whole.steps if s.id.startswith("S4") or s.id.startswith("S5-apgd-ce-100")]
    return Suite("part", tuple(steps))


@pytest.mark.parametrize("peer", [spikingjelly, snntorch, norse], ids=lambda peer: peer.__name__)
@pytest.mark.parametrize("number", range(3))
def test_adopted_it_answers_the_same_and_more_of_it_falls(peer, number):
    framework("torchattacks")
    with warnings.catch_warnings(), isolated(number):
        warnings.simplefilter("ignore")
        net = trained([*peer()][number]())
        (x, y), (test_x, test_y) = digits()
        asked = torch.cat([x, test_x])[:1000]
        ours = adopt(net, asked.split(250))
        assert (ours.adoption.samples, ours.adoption.apart) == (1000, 0.0)
        assert ours.adoption.kept == {}
        assert ours.adoption.leftover == ()
        with torch.no_grad():
            right = (net(test_x).argmax(1) == test_y).nonzero().flatten()
            assert len(right) > 0.85 * len(test_y)
        x, y = test_x[right[:FEW]], test_y[right[:FEW]]
        how = Conditions(batch=FEW)
        few = Split(x, y, 1.0)
        record = evaluate(ours, few, Linf(EPS), part_of_standard(x), checks=(), conditions=how)
        assert not any(step.skipped for step in record.steps)
        stands = theirs(net, x, y)
    told = ours.adoption.frameworks, record.robust_accuracy, float(stands.float().mean())
    print(*told)
    assert sum(record.robust) <= int(stands.sum())
    assert sum(record.robust) > 0 or int(stands.sum()) < FEW
