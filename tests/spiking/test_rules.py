from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    CBA,
    HART,
    LIF,
    PDSG,
    RGA,
    ATan,
    Direct,
    Encode,
    Gaussian,
    Memory,
    Rectangle,
    Sigmoid,
    Spiking,
    SpikingNetwork,
    StraightThrough,
    Trace,
    Triangle,
    forget,
    integrate_and_fire,
    keep_samples,
    seen_through,
    unobserved,
)
from tests.contracts.rule import assert_rule
from tests.oracles import rules as oracle

OMEGA = 2 / math.pi * math.tan(0.425 * math.pi)  # of the arctan, a = 0.425
RULES = [
    BPTT(),
    BPTT(ATan(), detach_reset=True),
    BPTR(),
    RGA(),
    HART(),
    HART(Triangle(0.5)),
    PDSG(),
    PDSG(detach_reset=True),
    ASSG(),
    ASSG(Rectangle(), detach_reset=False),
    ASSG(Triangle(), vanishing=0.5),
    CBA(),
    CBA("clip_floor"),
    CBA("clip_floor", levels=4),
]

# A rule, and the formula that makes the gradient of the current out of that of the spikes.
PAIRS = [
    (BPTT(), lambda: oracle.bptt(oracle.triangle, detach=False)),
    (BPTT(ATan(), detach_reset=True), lambda: oracle.bptt(oracle.arctan, detach=True)),
    (BPTR(), lambda: oracle.bptr),
    (RGA(), lambda: oracle.rga),
    (RGA(gamma=0.3, beta=3.0), lambda: lambda s, e: oracle.rga(s, e, 0.3, 3.0)),
    (HART(Triangle(1.5)), lambda: oracle.hart(lambda x: oracle.triangle(x, 1.5))),
    (HART(ATan()), lambda: oracle.hart(oracle.arctan)),
    (PDSG(), lambda: oracle.pdsg(detach=False)),
    (PDSG(detach_reset=True), lambda: oracle.pdsg(detach=True)),
    (ASSG(), lambda: oracle.Adaptive(lambda x: oracle.arctan(x, 1.0), OMEGA)),
    (
        ASSG(Triangle(), 0.6, 2.0, 0.5, 0.7, detach_reset=False),
        lambda: oracle.Adaptive(
            oracle.triangle, 1 - math.sqrt(0.4), rho=2.0, betas=(0.5, 0.7), detach=False
        ),
    ),
]
IDS = [repr(rule) for rule, _ in PAIRS]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_contract(rule):
    assert_rule(rule)


def randn(shape, seed) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed, "rules"), dtype=torch.float64)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize(("theta", "tau"), [(1.0, 1.0), (0.6, 0.7)])
@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 2, 3, 2, 4)], ids=["flat", "maps"])
@pytest.mark.parametrize(("rule", "formula"), PAIRS, ids=IDS)
def test_one_layer_equals_the_formula(rule, formula, shape, theta, tau, hard):
    current = (randn(shape, 0) * 0.7 + 0.3).requires_grad_()
    e = randn(shape, 1)
    spikes, _ = integrate_and_fire(
        current, None, theta, tau, hard=hard, rule=rule, memory=rule.memory()
    )
    (ours,) = torch.autograd.grad(spikes, current, e)
    seen = oracle.see(current.detach().numpy(), theta, tau, hard=hard)
    np.testing.assert_array_equal(spikes.detach().numpy(), seen.s)
    theirs = formula()(seen, e.numpy())
    assert np.abs(theirs).max() > 0.05
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-10)


STEPS, WIDTHS = 6, (5, 7, 6, 3)
NEURONS = ((0.8, 0.9, True), (0.5, 0.6, False))  # theta, tau, hard


def network(shift: float = 0.0) -> tuple[SpikingNetwork, tuple[np.ndarray, ...]]:
    with isolated(0):
        linears = [nn.Linear(a, b, bias=False) for a, b in pairwise(WIDTHS)]
    for seed, linear in enumerate(linears):
        linear.weight.data = randn(linear.weight.shape, 10 + seed) * 0.8 + shift
    first, second = (
        Spiking(LIF(tau, theta, "hard" if hard else "soft"), STEPS, opens_time=i == 0)
        for i, (theta, tau, hard) in enumerate(NEURONS)
    )
    layers = nn.Sequential(nn.Flatten(), linears[0], first, linears[1], second, linears[2])
    model = SpikingNetwork(Encode(Direct(), STEPS), layers).double()
    return model, tuple(linear.weight.detach().numpy() for linear in linears)


def images(batch: int, seed: int) -> torch.Tensor:
    return torch.rand((batch, 5, 1, 1), generator=generator(seed, "images"), dtype=torch.float64)


def gradient(model: nn.Module, x: torch.Tensor, d: torch.Tensor) -> np.ndarray:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x), x, d)
    return slope.flatten(1).numpy()


@pytest.mark.parametrize(("rule", "formula"), PAIRS, ids=IDS)
def test_two_layers_compose(rule, formula):
    model, weights = network(0.15)
    x, d = images(4, 0), randn((4, 3), 20)
    view = seen_through(model, rule)
    logits, expected = oracle.two_layers(
        x.flatten(1).numpy(), weights, NEURONS, (formula(), formula()), d.numpy(), STEPS
    )
    np.testing.assert_allclose(view(x).detach().numpy(), logits, rtol=1e-12, atol=1e-14)
    forget(view)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(gradient(view, x, d), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("activation", "levels"), [("relu", 8), ("clip_floor", 8)])
def test_the_analog_twin(activation, levels):
    model, weights = network(0.05)
    x, d = images(6, 1), randn((6, 3), 21)
    view = seen_through(model, CBA(activation, levels))
    logits, expected = oracle.analog_twin(
        x.flatten(1).numpy(),
        weights,
        (NEURONS[0][0], NEURONS[1][0]),
        d.numpy(),
        None if activation == "relu" else levels,
    )
    np.testing.assert_allclose(view(x).detach().numpy(), logits, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient(view, x, d), expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize(
    ("current", "slope"),
    [(-0.1, 0.0), (0.0, 0.2), (0.01, 0.5), (1.0, 0.5), (2.0, 0.5), (2.01, 0.0), (50.0, 0.0)],
)
def test_rga_without_leak(current, slope):
    x = torch.full((4, 1), current, dtype=torch.float64, requires_grad=True)
    spikes, _ = integrate_and_fire(x, None, 1.0, 1.0, hard=True, rule=RGA())
    (d,) = torch.autograd.grad(spikes.sum(), x)
    assert d.flatten().tolist() == [slope] * 4


@pytest.mark.parametrize(("current", "slope"), [(0.25, 0.2), (0.5, 0.2), (0.75, 0.6), (2.25, 0.0)])
def test_rga_with_leak(current, slope):
    """The foot up to 1 - tau = 1/2, and above it (1 - .2 + .2 * .5) / 1.5 = .6."""
    x = torch.full((4, 1), current, dtype=torch.float64, requires_grad=True)
    spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=RGA())
    (d,) = torch.autograd.grad(spikes.sum(), x)
    assert d.flatten().tolist() == pytest.approx([slope] * 4)


def test_rate_rules_send_nothing_along_the_membrane():
    current, membrane = randn((4, 2, 3), 3), randn((2, 3), 4)
    for rule in (BPTR(), RGA(), HART()):
        x, start = current.clone().requires_grad_(), membrane.clone().requires_grad_()
        spikes, after = integrate_and_fire(x, start, 1.0, 0.9, hard=True, rule=rule)
        d_x, d_start = torch.autograd.grad(after.sum() + 0 * spikes.sum(), (x, start))
        assert not d_x.any()
        assert not d_start.any()


@pytest.mark.parametrize("value", [0.3, 3 / 37, 6 / 37, 11 / 37, 12 / 37, 15 / 37])
def test_pdsg_of_equal_potentials_has_unit_width(value):
    """Rounding leaves a spread of about 1e-9 in 49 equal numbers, which would be a needle."""
    u = torch.full((3, 1, 1, 7, 7), value, dtype=torch.float64)
    trace = Trace(u, u, torch.zeros_like(u), 0.0, 1.0)
    expected = math.exp(-((value - 0.5) ** 2) / 2) / math.sqrt(2 * math.pi)
    slopes = PDSG().slopes(trace, None)
    torch.testing.assert_close(slopes, torch.full_like(u, expected))


def adaptive() -> tuple[nn.Module, list, tuple[np.ndarray, ...]]:
    model, weights = network(0.15)
    slow = [oracle.Adaptive(lambda x: oracle.arctan(x, 1.0), OMEGA) for _ in range(2)]
    return seen_through(model, ASSG()), slow, weights


def expected_gradient(slow, weights, x, d) -> np.ndarray:
    return oracle.two_layers(x.flatten(1).numpy(), weights, NEURONS, tuple(slow), d.numpy(), STEPS)[
        1
    ]


def test_adaptive_sharpness_over_an_attack_that_drops_samples():
    view, slow, weights = adaptive()
    d = randn((4, 3), 22)
    for step in range(4):
        x = images(4, 30 + step)
        ours = gradient(view, x, d)
        np.testing.assert_allclose(
            ours, expected_gradient(slow, weights, x, d), rtol=1e-8, atol=1e-9
        )
    index = [3, 1]
    keep_samples(view, torch.tensor(index))
    for state in slow:
        state.m, state.d = state.m[:, index], state.d[:, index]
    for step in range(2):
        x = images(2, 40 + step)
        ours = gradient(view, x, d[index])
        np.testing.assert_allclose(
            ours, expected_gradient(slow, weights, x, d[index]), rtol=1e-8, atol=1e-9
        )
    forget(view)
    fresh = adaptive()[1]
    x = images(3, 50)
    np.testing.assert_allclose(
        gradient(view, x, d[:3]),
        expected_gradient(fresh, weights, x, d[:3]),
        rtol=1e-8,
        atol=1e-9,
    )


def memories(view: nn.Module) -> list[Memory]:
    return [m.memory for m in view.modules() if isinstance(m, Spiking)]


def test_further_draws_use_the_memory_and_leave_it():
    view, slow, weights = adaptive()
    d = randn((2, 3), 23)
    gradient(view, images(2, 60), d)
    expected_gradient(slow, weights, images(2, 60), d)
    before = [[each.clone() for each in m.means] for m in memories(view)]
    x = images(2, 61)
    for state in slow:
        state.observe = lambda u: None
    with unobserved(view):
        ours = gradient(view, x, d)
    np.testing.assert_allclose(ours, expected_gradient(slow, weights, x, d), rtol=1e-8, atol=1e-9)
    for memory, (mean, deviation) in zip(memories(view), before, strict=True):
        assert torch.equal(memory.means[0], mean)
        assert torch.equal(memory.means[1], deviation)
        assert not memory.frozen


def test_unobserved_leaves_an_empty_memory_empty_and_ends_with_an_exception():
    view, _, _ = adaptive()
    x, d = images(2, 62), randn((2, 3), 24)
    with unobserved(view):
        first = gradient(view, x, d)
        np.testing.assert_array_equal(gradient(view, x, d), first)
    assert all(m.means is None for m in memories(view))
    with pytest.raises(KeyError), unobserved(view), unobserved(view):
        raise KeyError
    assert not any(m.frozen for m in memories(view))


def test_a_forward_pass_without_gradients_is_no_observation():
    view, _, _ = adaptive()
    with torch.no_grad():
        view(images(2, 63))
    view(images(2, 63)).detach()
    observed = [m.means for m in memories(view)]
    assert all(means is not None for means in observed), "weights want gradients: an attack step"
    forget(view)
    with torch.no_grad():
        view(images(2, 63))
    assert all(m.means is None for m in memories(view))


def test_a_batch_of_another_shape_is_refused():
    view, _, _ = adaptive()
    gradient(view, images(3, 64), randn((3, 3), 25))
    with pytest.raises(Refusal, match="call keep_samples"):
        gradient(view, images(2, 64), randn((2, 3), 25))


@pytest.mark.parametrize(
    ("curve", "share"),
    [
        (StraightThrough(), 0.85),
        (ATan(), 0.0),
        (ATan(), 1.0),
        (Triangle(), 1.2),
        (Sigmoid(), -0.1),
        (Gaussian(), math.nan),
    ],
)
def test_adaptive_sharpness_refuses_what_has_no_width(curve, share):
    with pytest.raises(Refusal, match="vanishing is"):
        ASSG(curve, vanishing=share)


def test_the_first_draw_of_an_empty_memory_is_that_of_a_first_step():
    view, _, _ = adaptive()
    x, d = images(2, 62), randn((2, 3), 24)
    with unobserved(view):
        first = gradient(view, x, d)
    np.testing.assert_array_equal(gradient(view, x, d), first)


def test_a_nested_block_gives_the_outer_one_back():
    view, _, _ = adaptive()
    with unobserved(view):
        with unobserved(view):
            pass
        assert all(m.frozen for m in memories(view))


def test_an_adaptive_view_of_an_adaptive_view_starts_with_an_empty_memory():
    view, _, _ = adaptive()
    x, d = images(2, 65), randn((2, 3), 26)
    first, second = gradient(view, x, d), gradient(view, x, d)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(gradient(seen_through(view, ASSG()), x, d), first)


@pytest.mark.parametrize(
    ("rule", "knobs"),
    [
        *((RGA, {"beta": beta}) for beta in (0.0, 1.0, -2.0, 1e200, math.nan)),
        *((RGA, {"gamma": gamma}) for gamma in (-0.1, 1e200, math.inf, math.nan)),
        *((ASSG, {"rho": rho}) for rho in (-1.0, math.inf, math.nan)),
        *((ASSG, {"beta_mean": beta}) for beta in (-0.1, 1.0, math.nan)),
        *((ASSG, {"beta_deviation": beta}) for beta in (-0.1, 1.0, math.nan)),
    ],
)
def test_rules_refuse_knobs_without_meaning(rule, knobs):
    (name,) = knobs
    with pytest.raises(Refusal, match=f"^{name}.* is "):
        rule(**knobs)
