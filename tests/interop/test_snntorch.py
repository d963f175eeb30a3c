from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from spikeproof.interop import adopt, adopt_or_lend
from spikeproof.interop._snntorch import Dynamics
from spikeproof.seeding import isolated
from spikeproof.spiking import ASSG, BPTT, PDSG, RGA, seen_through
from tests.interop.networks import close, currents, fired, framework, gradient, samples
from tests.oracles import foreign

pytestmark = pytest.mark.interop

RESETS = {"subtract": "_base_sub", "zero": "_base_zero", "none": "_base_int"}


def neuron(kind, reset, **values):
    """What the dynamics read of a neuron; how it resets is the name of a method."""
    made = type(kind, (nn.Module,), {})()
    made.state_function = type("Function", (), {"__name__": RESETS[reset]})()
    for name, value in values.items():
        setattr(made, name, torch.tensor(value) if isinstance(value, float) else value)
    return made


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("delay", [True, False])
def test_every_step_is_the_published_one_bit_for_bit(reset, delay):
    x = currents(2)
    shared = {"threshold": 0.9, "reset_delay": delay}
    leaky = neuron("Leaky", reset, beta=0.8, **shared)
    expected = foreign.leaky(x.numpy(), beta=0.8, theta=0.9, reset=reset, delay=delay)
    same(leaky, x, expected)
    synaptic = neuron("Synaptic", reset, alpha=0.6, beta=0.8, **shared)
    same(
        synaptic,
        x,
        foreign.synaptic(x.numpy(), alpha=0.6, beta=0.8, theta=0.9, reset=reset, delay=delay),
    )
    if delay:
        lapicque = neuron("Lapicque", reset, R=1.5, C=1.3, time_step=1.1, threshold=0.3)
        told = {"r": 1.5, "c": 1.3, "step": 1.1, "theta": 0.3}
        same(lapicque, x, foreign.lapicque(x.numpy(), reset=reset, **told))


def same(theirs, x, expected):
    with torch.no_grad():
        spikes = fired(Dynamics(theirs), x, whole=False)
    assert 0.05 < expected.mean() < 0.9
    assert torch.equal(spikes, torch.from_numpy(expected))


class Looped(nn.Module):
    """Two layers, step by step; the state is hidden, or passed on, or read out."""

    def __init__(self, make, *, hidden=False, resets=True, read=False):
        super().__init__()
        self.hidden, self.resets, self.read = hidden, resets, read
        with isolated(0):
            self.a, self.b, self.c = nn.Linear(6, 40), nn.Linear(40, 30), nn.Linear(30, 4)
        self.n1, self.n2 = make(hidden), make(hidden)

    def forward(self, x):
        if self.hidden:
            if self.resets:
                framework("snntorch.utils").reset(self)
            return sum(self.c(self.n2(3 * self.b(self.n1(3 * self.a(x))))) for _ in range(6)) / 6
        first, second = ([part] if torch.is_tensor(part) else [*part] for part in self.rested())
        out = 0
        for _ in range(6):
            s, *first = self.n1(3 * self.a(x), *first)
            s, *second = self.n2(3 * self.b(s), *second)
            out = out + self.c(second[-1] if self.read else s)
        return out / 6

    def rested(self):
        return self.n1.reset_mem(), self.n2.reset_mem()


def makes():
    snn, curves = framework("snntorch"), framework("snntorch.surrogate")
    for reset in RESETS:
        for delay in (True, False):
            given = {"reset_mechanism": reset, "reset_delay": delay}
            yield lambda h, g=given: snn.Leaky(beta=0.8, init_hidden=h, **g)
            yield lambda h, g=given: snn.Synaptic(
                alpha=0.6, beta=0.8, init_hidden=h, spike_grad=curves.fast_sigmoid(), **g
            )
        yield lambda h, r=reset: snn.Lapicque(
            R=0.6, C=0.9, threshold=0.3, init_hidden=h, reset_mechanism=r
        )
    yield lambda h: snn.Leaky(
        beta=torch.tensor(0.7), threshold=0.8, learn_beta=True, learn_threshold=True, init_hidden=h
    )


@pytest.mark.parametrize("how", ["hidden", "passed", "read"])
def test_its_networks_answer_the_same_and_keep_their_gradient(how):
    x = samples()
    for make in makes():
        net = Looped(make, hidden=how == "hidden", read=how == "read").eval()
        ours = adopt(net, [x, x[:7]])
        told = ours.adoption
        assert (told.replaced, told.kept, told.apart, told.leftover) == (("n1", "n2"), {}, 0.0, ())
        rested(net)
        close(gradient(net, x), gradient(ours, x))


def rested(net):
    for layer in (net.n1, net.n2):
        layer.reset_mem()


def test_a_hidden_state_that_nobody_resets_is_named():
    snn, x = framework("snntorch"), samples()
    net = Looped(lambda h: snn.Leaky(beta=0.9, init_hidden=h), hidden=True, resets=False).eval()
    ours = adopt(net, [x])
    assert ours.adoption.leftover == ("n1", "n2")
    assert torch.equal(ours(x), ours(x))


def test_a_reset_of_the_copy_leaves_the_network_alone():
    # utils.reset clears every neuron that was ever made, in other networks too.
    snn, x = framework("snntorch"), samples()
    other = Looped(lambda h: snn.Leaky(beta=0.9, init_hidden=h), hidden=True, resets=False).eval()
    with torch.no_grad():
        other(x)
    before = other.n1.mem.clone()
    net = Looped(lambda h: snn.Leaky(beta=0.9, init_hidden=h), hidden=True, resets=False).eval()
    ours = adopt(net, [x])
    ours(x)
    assert torch.equal(before, other.n1.mem)
    assert before.any()


def test_a_delayed_reset_can_be_differentiated_if_an_attacker_wants_it():
    snn, x = framework("snntorch"), samples()
    net = Looped(lambda h: snn.Leaky(beta=0.9, init_hidden=h), hidden=True).eval()
    ours = adopt(net, [x])
    curve = ours.get_submodule("net.n1.ours").rule.surrogate
    detached, through = BPTT(curve, detach_reset=True), BPTT(curve)
    own = gradient(ours, x)
    close(own, gradient(seen_through(ours, detached), x))
    assert not torch.allclose(own, gradient(seen_through(ours, through), x), rtol=1e-3)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"inhibition": True}, "inhibit"),
        ({"graded_spikes_factor": 0.5}, "graded"),
        ({"state_quant": torch.round}, "quantised"),
    ],
)
def test_what_has_other_dynamics_stays(given, why):
    snn, x = framework("snntorch"), samples()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = snn.Leaky(beta=0.9, **given)
    net = Looped(lambda h: copy.deepcopy(made)).eval()
    ours = adopt_or_lend(net, [x])
    assert why in ours.adoption.kept["n1"]
    assert ours.adoption.lent == ("n1", "n2")
    assert torch.equal(ours(x), net(x))
    if why != "quantised":  # which rounds the membrane, and the gradient away
        assert gradient(seen_through(ours, ASSG()), x).abs().max() > 0


def test_other_kinds_are_lent():
    snn, x = framework("snntorch"), samples()
    net = Looped(lambda h: snn.Alpha(alpha=0.9, beta=0.8))

    def rested():
        return net.n1.reset_mem(), net.n2.reset_mem()

    net.rested = rested
    told = adopt_or_lend(net.eval(), [x]).adoption
    assert "Alpha is not among" in told.kept["n1"]
    assert told.apart == 0.0


class Shared(nn.Module):
    """One neuron, or two alike, for two layers whose membranes are passed."""

    def __init__(self, *, one):
        super().__init__()
        leaky = framework("snntorch").Leaky
        with isolated(0):
            self.a, self.b, self.c = nn.Linear(6, 40), nn.Linear(40, 40), nn.Linear(40, 4)
        self.n1 = leaky(beta=0.8, reset_mechanism="zero")
        self.n2 = self.n1 if one else leaky(beta=0.8, reset_mechanism="zero")

    def forward(self, x):
        m1 = m2 = torch.zeros(len(x), 40)
        out = 0
        for _ in range(6):
            s1, m1 = self.n1(2 * self.a(x), m1)
            s2, m2 = self.n2(2 * self.b(s1), m2)
            out = out + self.c(s2)
        return out / 6


def test_one_module_for_two_layers_has_the_gradients_of_two():
    x, one, two = samples(), Shared(one=True).eval(), Shared(one=False).eval()
    ours, others = adopt(one, [x]), adopt(two, [x])
    close(gradient(one, x), gradient(ours, x))
    for rule in (PDSG(), RGA(), BPTT(detach_reset=False)):
        close(gradient(seen_through(others, rule), x), gradient(seen_through(ours, rule), x))


def test_a_class_of_the_users_own_forgets_between_calls():
    class Mine(framework("snntorch").Leaky):
        pass

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            with isolated(0):
                self.a, self.c = nn.Linear(6, 40), nn.Linear(40, 4)
            self.n = Mine(beta=0.8, init_hidden=True)

        def forward(self, x):
            return sum(self.c(self.n(2 * self.a(x))) for _ in range(6)) / 6

    x = samples()
    ours = adopt_or_lend(Net().eval(), [x])
    assert ours.adoption.lent == ("n",)
    assert torch.equal(ours(x), ours(x))


def test_a_surrogate_that_only_takes_its_own_shape_is_told_and_stays():
    def fires(u):  # as a slope for each channel does
        return framework("snntorch").surrogate.atan()(u * torch.ones(4))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            with isolated(0):
                self.a = nn.Linear(6, 4)
            self.n = framework("snntorch").Leaky(beta=0.8, spike_grad=fires)

        def forward(self, x):
            mem, out = torch.zeros(len(x), 4), 0
            for _ in range(6):
                spikes, mem = self.n(2 * self.a(x), mem)
                out = out + spikes
            return out

    x, net = samples(), Net().eval()
    ours = adopt_or_lend(net, [x])
    assert ours.adoption.own == ("n",)
    assert "its settings are not known" in ours.adoption.kept["n"]
    close(gradient(net, x), gradient(ours, x))
