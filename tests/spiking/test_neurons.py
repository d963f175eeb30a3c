from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import BPTT, HART, IF, LIF, Spiking, Triangle, confine
from tests.contracts.neuron import assert_neuron

NEURONS = [
    IF(),
    IF(reset="soft"),
    IF(theta=0.3),
    LIF(),
    LIF(tau=0.9, theta=0.7, reset="soft"),
    LIF(tau=0.0),
    LIF(tau=0.9, rule=BPTT(Triangle(2.0), detach_reset=True)),
    LIF(learn_theta=True, learn_tau=True),
    LIF(tau=0.3, theta=0.2, reset="soft", learn_theta=True, learn_tau=True),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_contract(neuron):
    assert_neuron(neuron)


def spikes_at(neuron: LIF, current: float, steps: int) -> list[int]:
    """The steps, counted from 1, at which a constant current makes the neuron fire."""
    out = Spiking(neuron, steps)(torch.full((steps, 1), current))
    return (out.flatten().nonzero().flatten() + 1).tolist()


def test_constant_currents_by_hand():
    assert spikes_at(IF(), 0.4, 10) == [3, 6, 9]
    assert spikes_at(LIF(tau=0.5), 0.4, 200) == []
    assert spikes_at(IF(reset="soft"), 0.375, 8) == [3, 6, 8]  # 1.125 -> .125 .. 1.25 -> .25
    assert spikes_at(LIF(tau=0.5), 0.75, 6) == [2, 4, 6]
    assert spikes_at(IF(), 1.0, 3) == [1, 2, 3], "reaching the threshold is firing"


def test_a_layer_that_opens_time_holds_its_current():
    held = Spiking(IF(), 9, opens_time=True)
    x = torch.rand((4, 3), generator=generator(0))
    assert torch.equal(held(x), Spiking(IF(), 9)(x.repeat(9, 1)))


def test_learned_values_are_floored_and_clamped():
    layer = Spiking(LIF(learn_theta=True, learn_tau=True), 4)
    with torch.no_grad():
        layer.learned["theta"].fill_(-2.0)
        layer.learned["tau"].fill_(1.5)
    assert layer.theta.item() == pytest.approx(0.03)
    assert layer.tau.item() == 1.0
    assert torch.equal(layer(torch.full((4, 1), 0.031)), torch.ones(4, 1))
    assert set(layer.state_dict()) == {"learned.theta", "learned.tau"}


def test_confined_values_feel_a_gradient_again():
    layer = Spiking(LIF(learn_theta=True, learn_tau=True), 4)
    with torch.no_grad():
        layer.learned["theta"].fill_(-2.0)
        layer.learned["tau"].fill_(1.5)
    before = layer.theta.item(), layer.tau.item()
    confine(layer)
    assert (layer.theta.item(), layer.tau.item()) == before
    (layer.theta + layer.tau).backward()
    assert [value.grad.item() for value in layer.learned.values()] == [1.0, 1.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: LIF(tau=-0.1),
        lambda: LIF(tau=1.1),
        lambda: LIF(tau=math.nan),
        lambda: LIF(theta=0.0),
        lambda: LIF(theta=math.inf),
        lambda: LIF(theta=math.nan),
        lambda: LIF(floor=0.0),
        lambda: IF(theta=0.02),
        lambda: LIF(theta=1e300),
        lambda: LIF(theta=1e-300, floor=1e-300),
        lambda: LIF(tau=1e300),
        lambda: IF(tau=0.2),
        lambda: Spiking(IF(), 0),
    ],
)
def test_bad_values_are_refused(make):
    with pytest.raises(Refusal, match="; take "):
        make()


def test_an_unknown_reset_is_refused():
    neuron = LIF()
    object.__setattr__(neuron, "reset", "none")  # past the type checker of the tests
    with pytest.raises(Refusal, match="'hard' or 'soft'; choose one"):
        neuron.__post_init__()


def test_rows_that_are_no_multiple_of_t_are_refused():
    with pytest.raises(Refusal, match="T = 4 steps got 6 rows"):
        Spiking(IF(), 4)(torch.zeros(6, 2))


def test_equal_values_are_equal_neurons():
    assert LIF() == LIF()
    assert IF() == IF(tau=1.0)
    assert Spiking(LIF(rule=HART()), 4).rule == HART()
    assert "T=4" in repr(Spiking(IF(), 4))


def sixtyfourths(shape, seed) -> torch.Tensor:
    """Currents whose sums are exact in float32, so that no rounding decides a spike."""
    return torch.randint(-32, 96, shape, generator=generator(seed)) / 64


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["if", "lif", "lif with decayed input"])
def test_spikingjelly_fires_the_same(kind, training, reset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old releases script functions at import
        peer = pytest.importorskip(
            "spikingjelly.activation_based.neuron",
            reason="spikingjelly is not installed",
            exc_type=ImportError,
        )
        shared = {"v_reset": 0.0 if reset == "hard" else None, "step_mode": "m"}
        other = (
            peer.IFNode(**shared)
            if kind == "if"
            else peer.LIFNode(tau=2.0, decay_input=kind != "lif", **shared)
        )
        x = sixtyfourths((8, 5, 33), 7)
        theirs = other.train(training)(x)
    ours = Spiking((IF if kind == "if" else LIF)(reset=reset), 8)
    current = x / 2 if kind.endswith("input") else x
    assert torch.equal(ours.run(current)[0], theirs)
    assert 0.02 < theirs.mean() < 0.8


@pytest.mark.parametrize(("reset", "name"), [("hard", "zero"), ("soft", "subtract")])
@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_snntorch_fires_the_same(tau, reset, name):
    with warnings.catch_warnings(), isolated(0):
        warnings.simplefilter("ignore")
        peer = pytest.importorskip(
            "snntorch", reason="snntorch is not installed", exc_type=ImportError
        )
        other = peer.Leaky(beta=tau, reset_mechanism=name, reset_delay=False)
        # Its spike is u > 1, so no ties; it resets a second time where u stays above 1.
        x = sixtyfourths((8, 5, 33), 8).clamp_max(60 / 64) + 1 / 1024
        membrane, theirs = other.init_leaky(), []
        for current in x:
            spikes, membrane = other(current, membrane)
            theirs.append(spikes)
    ours = Spiking(LIF(tau=tau, reset=reset), 8)
    assert torch.equal(ours.run(x)[0], torch.stack(theirs).detach())


def test_a_layer_moves_with_its_model():
    model = nn.Sequential(Spiking(LIF(learn_theta=True), 2)).double()
    assert model[0].theta.dtype == torch.float64
