from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from spikeproof.interop import adopt, adopt_or_lend, lend
from spikeproof.interop._spikingjelly import Dynamics
from spikeproof.seeding import isolated
from spikeproof.spiking import ASSG, BPTT, ATan, Triangle, seen_through
from tests.interop.networks import (
    Jelly,
    close,
    currents,
    fired,
    framework,
    gradient,
    jelly,
    jelly_model,
    samples,
    trained_mode,
)
from tests.oracles import foreign

pytestmark = pytest.mark.interop

LEAKS = [{}, {"decay_input": False}, {"tau": 3.0}, {"tau": 3.0, "decay_input": False}]
RESTS = [0.0, None, -0.25]


def node(kind: str, *, old: bool, **settings) -> nn.Module:
    """What the dynamics read of a node; old releases have a method that new ones lack."""
    given = {"v_threshold": 1.0, "v_reset": 0.0, "tau": 2.0, "decay_input": True} | settings
    made = type(kind, (nn.Module,), {"neuronal_charge": None} if old else {})()
    for name, value in given.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("rest", RESTS)
@pytest.mark.parametrize("whole", [False, True])
def test_every_step_is_the_published_one_bit_for_bit(old, rest, whole):
    x = currents(1)
    cases = [("IFNode", {}, {})]
    cases += [("LIFNode", leak, {"tau": 2.0} | leak) for leak in LEAKS]
    for decays in (True, False):
        given = {"w": nn.Parameter(torch.tensor(-0.7)), "decay_input": decays}
        cases += [("ParametricLIFNode", given, {"w": -0.7, "decay_input": decays})]
    for kind, given, asked in cases:
        theirs = node(kind, old=old, v_reset=rest, v_threshold=0.9, **given)
        with torch.no_grad():
            spikes = fired(Dynamics(theirs), x, whole=whole)
        expected = torch.from_numpy(
            foreign.spikingjelly(x.numpy(), theta=0.9, rest=rest, old=old, **asked)
        )
        assert 0.05 < float(expected.mean()) < 0.8
        assert torch.equal(spikes, expected), (kind, given)


def test_where_our_own_neuron_has_the_same_bits_it_is_taken():
    def same(kind, **given):
        return Dynamics(node(kind, old=False, **given)).same_as_ours()

    assert same("IFNode", v_reset=None, v_threshold=2.0) == (2.0, 1.0, False)
    assert same("LIFNode", tau=4.0, decay_input=False) == (1.0, 0.75, True)
    assert same("LIFNode") is None
    assert same("LIFNode", tau=3.0, decay_input=False) is None
    assert same("IFNode", v_reset=-0.1) is None
    assert same("IFNode", v_threshold=torch.ones(3)) is None


def nodes():
    neuron, curve = jelly("neuron"), jelly("surrogate").ATan()
    yield neuron.IFNode()
    yield neuron.IFNode(v_reset=None, detach_reset=True, surrogate_function=curve)
    yield neuron.IFNode(v_reset=-0.1)
    for leak in LEAKS:
        yield neuron.LIFNode(**leak, surrogate_function=curve)
    yield neuron.LIFNode(tau=3.0, v_reset=0.1, decay_input=False)
    yield neuron.LIFNode(tau=3.0, v_reset=None, decay_input=False)
    yield neuron.ParametricLIFNode(init_tau=3.0, v_reset=None)
    yield neuron.ParametricLIFNode(init_tau=3.0, decay_input=False)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("resets", [True, False])
def test_its_networks_answer_the_same_and_keep_their_gradient(mode, resets):
    x = samples()
    for made in nodes():
        net = Jelly(lambda made=made: copy.deepcopy(made), mode, resets=resets).eval()
        ours = adopt(net, [x, x[:7]])
        told = ours.adoption
        assert (told.replaced, told.kept, told.apart) == (("n1", "n2"), {}, 0.0)
        assert told.leftover == (() if resets else ("n1", "n2"))
        # In eval mode the old releases have no gradient at all; in training they have this one.
        close(gradient(trained_mode(net), x), gradient(ours, x))
        assert gradient(seen_through(ours, ASSG()), x).abs().max() > 0


CURVES = ("ATan", "Erf", "LeakyKReLU", "LogTailedReLU", "NonzeroSignLogAbs", "PiecewiseExp")
CURVES += ("PiecewiseLeakyReLU", "PiecewiseQuadratic", "QPseudoSpike", "S2NN", "Sigmoid")
CURVES += ("SoftSign", "SquarewaveFourierSeries")


def test_any_of_its_surrogates_hands_its_slopes_over():
    neuron, curves, x = jelly("neuron"), jelly("surrogate"), samples()
    for name in CURVES:
        curve = getattr(curves, name)()
        net = Jelly(lambda curve=curve: neuron.IFNode(surrogate_function=curve), "m").eval()
        try:
            own = gradient(trained_mode(net), x)
        except RuntimeError:  # a defect of NonzeroSignLogAbs in old releases
            assert name == "NonzeroSignLogAbs"
            continue
        close(own, gradient(adopt(net, [x]), x), 1e-5)


def test_a_threshold_that_learns_is_followed():
    # New releases take it with a surrogate of one's own alone; old ones in training alone.
    class Own(nn.Module):
        def forward(self, u):
            return jelly("surrogate").atan.apply(u, 2.0)

    def made():
        threshold = nn.Parameter(torch.tensor([0.5, 1.5]).repeat(20))
        theirs = jelly("neuron").LIFNode(surrogate_function=Own())
        theirs.v_threshold = threshold
        return theirs

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.n1 = made()
            self.n1.step_mode = "m"
            self.weight = nn.Parameter(torch.linspace(-1, 1, 240).view(6, 40).sin())

        def forward(self, x):
            return self.n1((x @ self.weight).expand(4, -1, -1)).mean(0).view(-1, 4, 10).mean(2)

    net, x = Net().eval(), samples()
    try:
        net(x)
    except RuntimeError:
        pytest.skip("this release has no learned threshold in eval mode")
    jelly("functional").reset_net(net)
    ours = adopt(net, [x])
    with torch.no_grad():
        ours.get_parameter("net.n1.theirs.v_threshold").fill_(100.0)
        assert not ours(x).any()


class Residual(nn.Module):
    """A block whose shortcut goes around its neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Jelly(jelly("neuron").IFNode, "m")
        self.shortcut = nn.Parameter(torch.linspace(-0.4, 0.4, 24).view(6, 4))

    def forward(self, x):
        return self.inner(x) + x @ self.shortcut


def test_no_gradient_hides_in_eval_mode_where_shortcuts_go_on():
    net, x = Residual().eval(), samples()
    true = gradient(trained_mode(net), x)
    seen = gradient(net, x)
    ours = gradient(adopt(net, [x]).eval(), x)
    close(true, ours)
    if hasattr(jelly("neuron").IFNode, "neuronal_charge"):  # old: it flows around the neurons only
        assert seen.abs().max() > 0
        assert float((seen - true).abs().max()) > 0.1 * float(true.abs().max())
    else:
        close(true, seen)


def test_a_cached_list_of_modules_that_skips_new_neurons_does_no_harm():
    net, x = Jelly(jelly("neuron").LIFNode, "s", resets=False).eval(), samples()
    jelly("functional").reset_net(net)  # new releases keep the list of this call
    ours = adopt(net, [x])
    first = ours(x)
    assert torch.equal(first, ours(x))
    inside = Jelly(jelly("neuron").LIFNode, "s").eval()
    inside.load_state_dict(net.state_dict())
    inside(x)
    ours = adopt(inside, [x])
    assert torch.equal(first, ours(x))
    assert torch.equal(first, seen_through(ours, ASSG())(x))


def test_a_surrogate_that_all_share_is_not_changed():
    neuron, x = jelly("neuron"), samples()
    net, other = Jelly(neuron.IFNode, "m").eval(), Jelly(neuron.IFNode, "m").eval()
    assert net.n1.surrogate_function is other.n1.surrogate_function is net.n2.surrogate_function
    alpha, before = net.n1.surrogate_function.alpha, gradient(trained_mode(other), x)
    ours = adopt(net, [x])
    ours.get_submodule("net.n1.theirs").surrogate_function.alpha = 9.0
    assert not torch.equal(before, gradient(seen_through(ours, BPTT(Triangle(0.3))), x))
    assert net.n1.surrogate_function.alpha == alpha
    assert torch.equal(before, gradient(trained_mode(other), x))


def test_state_left_over_is_found_named_and_given_back():
    net, x = Jelly(jelly("neuron").LIFNode, "m", resets=False).train(), samples()
    net(x)  # a batch, and no reset
    v = net.n1.v
    ours = adopt(net, [x])
    assert ours.adoption.leftover == ("n1", "n2")
    assert net.n1.v is v
    assert net.training
    assert "state is left over in n1, n2" in str(ours.adoption)
    clean = Jelly(jelly("neuron").LIFNode, "m").eval()
    assert torch.equal(ours.eval()(x), clean(x))
    assert torch.equal(ours(x), clean(x)), "twice the same"


def test_another_batch_size_needs_no_reset():
    ours = adopt(Jelly(jelly("neuron").IFNode, "s", resets=False).eval(), [samples()])
    assert torch.equal(ours(samples())[:5], ours(samples()[:5]))


def test_neurons_that_are_not_known_keep_theirs_and_their_surrogate_is_exchanged():
    neuron, x = jelly("neuron"), samples()
    net = Jelly(lambda: neuron.QIFNode(surrogate_function=jelly("surrogate").ATan()), "m").eval()
    ours = adopt_or_lend(net, [x])
    assert (ours.adoption.replaced, ours.adoption.lent) == ((), ("n1", "n2"))
    assert "QIFNode is not among" in ours.adoption.refused
    own = gradient(trained_mode(net), x)
    assert torch.equal(ours(x), net(x))
    close(own, gradient(ours, x))
    close(own, gradient(seen_through(ours, BPTT(ATan(2.0))), x))
    assert not torch.equal(own, gradient(seen_through(ours, ASSG()), x))


def test_a_node_that_drops_its_gradient_in_eval_mode_is_kept_awake():
    neuron, x = jelly("neuron"), samples()
    if not hasattr(neuron, "ComplementaryLIFNode"):
        pytest.skip("this release has no node that is lent and sleeps in eval mode")
    net = Jelly(neuron.ComplementaryLIFNode, "m").eval()
    own = gradient(trained_mode(net), x)
    ours = adopt_or_lend(net, [x]).eval()
    assert ours.adoption.lent == ("n1", "n2")
    assert torch.equal(ours(x), net(x))
    close(own, gradient(ours, x), 1e-5)


def test_a_class_made_from_a_node_is_not_taken_for_it():
    class Mine(jelly("neuron").LIFNode):
        pass

    net, x = Jelly(Mine, "m").eval(), samples()
    net.n2 = jelly("neuron").IFNode(step_mode="m")
    told = adopt(net, [x]).adoption
    assert (told.replaced, told.lent) == (("n2",), ("n1",))
    assert "Mine is a class of its own" in told.kept["n1"]


def test_a_node_that_stores_its_membranes_stays():
    net = Jelly(lambda: jelly("neuron").IFNode(store_v_seq=True), "m").eval()
    assert adopt_or_lend(net, [samples()]).adoption.kept["n1"].startswith("it stores")


@pytest.mark.parametrize("mode", ["m", "s"])
def test_sew_resnet_18_adopts(mode):
    sew, functional = jelly_model("sew_resnet"), jelly("functional")

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            with isolated(3):
                self.net = sew.sew_resnet18(
                    spiking_neuron=jelly("neuron").IFNode, cnf="ADD", num_classes=10
                )
            functional.set_step_mode(self.net, mode)
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.running_var.fill_(0.05)

        def forward(self, x):
            functional.reset_net(self.net)
            if mode == "m":
                return self.net(x.unsqueeze(0).repeat(2, 1, 1, 1, 1)).mean(0)
            return (self.net(x) + self.net(x)) / 2

    net, x = Whole().eval(), samples(2, 3 * 32 * 32).view(2, 3, 32, 32)
    ours = adopt(net, [x])
    assert (len(ours.adoption.replaced), ours.adoption.apart) == (20, 0.0)
    assert net(x).abs().max() > 0
    ours.requires_grad_(False)
    assert gradient(seen_through(ours, ASSG()), x).abs().max() > 0


class Resetting(Jelly):
    """Resets its nodes itself, having asked which layers are nodes."""

    def forward(self, x):
        nodes = [layer for layer in self.modules() if isinstance(layer, jelly("neuron").IFNode)]
        assert len(nodes) >= 2
        for layer in (self.n1, self.n2):
            layer.reset()
        return super().forward(x)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_network_may_reset_its_nodes_itself(mode):
    net, x = Resetting(jelly("neuron").IFNode, mode, resets=False).eval(), samples()
    ours = adopt(net, [x])
    assert (ours.adoption.replaced, ours.adoption.leftover) == (("n1", "n2"), ())
    close(gradient(trained_mode(net), x), gradient(ours, x))
    assert gradient(seen_through(ours, ASSG()), x).any()
    assert torch.equal(lend(net, [x])(x), net(x))


def test_a_reset_of_the_whole_network_warns_of_nothing(caplog):
    net, x = Jelly(jelly("neuron").IFNode, "s").eval(), samples()
    ours = adopt(net, [x])
    caplog.clear()
    ours(x)
    assert not caplog.records


def test_nodes_of_a_network_that_nothing_is_proven_of_stay_awake():
    class Peeks(Jelly):
        def forward(self, x):
            out = super().forward(x)
            return out if type(self.n1) is jelly("neuron").IFNode else out.missing

    net, x = Peeks(jelly("neuron").IFNode, "m").eval(), samples()
    own = gradient(trained_mode(net), x)
    ours = adopt_or_lend(net, [x]).eval()
    assert ours.adoption.own == ("n1", "n2")
    close(own, gradient(ours, x))


def test_nodes_of_the_first_releases_are_not_taken_for_those_of_today():
    neuron = framework("spikingjelly.clock_driven.neuron")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            with isolated(0):
                self.a, self.c = nn.Linear(6, 40), nn.Linear(40, 4)
            self.n = neuron.LIFNode()

        def forward(self, x):
            self.n.reset()
            return sum(self.c(self.n(4 * self.a(x))) for _ in range(6)) / 6

    net, x = Net().eval(), samples()
    own = gradient(trained_mode(net), x)
    ours = adopt_or_lend(net, [x])
    assert ours.adoption.replaced == ()
    assert "has steps of its own" in ours.adoption.refused
    assert torch.equal(ours(x), net(x))
    close(own, gradient(ours, x))
