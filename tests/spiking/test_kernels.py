from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeproof import spiking
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import (
    BPTR,
    BPTT,
    LIF,
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Sigmoid,
    Spiking,
    StraightThrough,
    Triangle,
    _kernels,
    integrate_and_fire,
    kernel,
    kernel_in_use,
)
from tests.oracles import lif as oracle
from tests.oracles import rules as formulas

CURVES = [
    (Triangle(0.7), lambda x: formulas.triangle(x, 0.7)),
    (Rectangle(1.5), lambda x: formulas.rectangle(x, 1.5)),
    (ATan(2.0), formulas.arctan),
    (Sigmoid(4.0), formulas.sigmoid),
    (Gaussian(2.0), lambda x: formulas.gaussian(x, 2.0)),
    (Exponential(0.3, 1.0), lambda x: formulas.exponential(x, 0.3, 1.0)),
    (StraightThrough(), formulas.straight),
]


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 9),
    theta=st.floats(0.05, 3.0),
    tau=st.floats(0.0, 1.0),
    hard=st.booleans(),
    start=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_equal_to_one_neuron_at_a_time(seed, steps, theta, tau, hard, start, dtype):
    source = generator(seed, "kernel")
    current = (torch.randn((steps, 2, 3), generator=source) + 0.3).to(dtype)
    membrane = torch.randn((2, 3), generator=source).to(dtype) if start else None
    given_start = None if membrane is None else membrane.numpy()
    expected, last, _ = oracle.layer(current.numpy(), theta, tau, hard=hard, start=given_start)
    for tracked in (False, True):
        x = current.clone().requires_grad_(tracked)
        spikes, after = integrate_and_fire(x, membrane, theta, tau, hard=hard, rule=BPTT())
        np.testing.assert_array_equal(spikes.detach().numpy(), expected)
        np.testing.assert_array_equal(after.detach().numpy(), last)
    with torch.no_grad():
        spikes, after = integrate_and_fire(current, membrane, theta, tau, hard=hard, rule=BPTT())
    np.testing.assert_array_equal(spikes.numpy(), expected)


def leaves(seed: int) -> list[torch.Tensor]:
    source = generator(seed, "leaves")
    current = torch.randn((6, 3, 4), generator=source, dtype=torch.float64) * 0.8 + 0.3
    membrane = torch.randn((3, 4), generator=source, dtype=torch.float64) * 0.4
    values = [current, membrane, torch.tensor(0.8).double(), torch.tensor(0.6).double()]
    return [value.requires_grad_() for value in values]


def loss(spikes: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    weights = torch.cos(torch.arange(spikes.numel(), dtype=torch.float64)).view_as(spikes)
    return (weights * spikes).sum() + (weights[0] * after).sum()


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize(("curve", "formula"), CURVES, ids=[repr(c) for c, _ in CURVES])
def test_bptt_is_what_autograd_makes_of_the_loop(curve, formula, hard, detach):
    current, membrane, theta, tau = values = leaves(1)
    rule = BPTT(curve, detach_reset=detach)
    ours = integrate_and_fire(current, membrane, theta, tau, hard=hard, rule=rule)

    def slope(u: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(formula(u.detach().numpy()))

    theirs = oracle.unrolled(current, membrane, theta, tau, slope, hard=hard, detach=detach)
    assert torch.equal(ours[0], theirs[0])
    assert 0.1 < ours[0].mean() < 0.9
    for a, b in zip(
        torch.autograd.grad(loss(*ours), values),
        torch.autograd.grad(loss(*theirs), values),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hard", [True, False])
def test_bptt_from_rest(hard):
    current, _, theta, tau = leaves(2)
    ours = integrate_and_fire(current, None, theta, tau, hard=hard, rule=BPTT())
    theirs = oracle.unrolled(
        current,
        torch.zeros_like(current[0]),
        theta,
        tau,
        lambda u: torch.from_numpy(formulas.triangle(u.detach().numpy())),
        hard=hard,
        detach=False,
    )
    values = (current, theta, tau)
    for a, b in zip(
        torch.autograd.grad(loss(*ours), values),
        torch.autograd.grad(loss(*theirs), values),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("curve", [ATan(2.0), Sigmoid(4.0), Gaussian(2.0)], ids=repr)
def test_smooth_gradient_is_the_true_one(curve, hard):
    def run(*values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return integrate_and_fire(*values, hard=hard, rule=BPTT(curve), smooth=True)

    values = leaves(3)
    assert torch.autograd.gradcheck(run, values)
    theirs = oracle.smooth(*values, curve.primitive, hard=hard)
    torch.testing.assert_close(run(*values), theirs)
    with torch.no_grad():
        torch.testing.assert_close(run(*values), theirs)


def test_smooth_means_nothing_to_a_rule_without_a_curve():
    current, membrane, theta, tau = leaves(4)
    run = {"hard": True, "rule": BPTR()}
    smooth = integrate_and_fire(current, membrane, theta, tau, smooth=True, **run)
    assert torch.equal(smooth[0], integrate_and_fire(current, membrane, theta, tau, **run)[0])


def test_plain_numbers_and_learned_ones_give_the_same():
    current, membrane, theta, tau = leaves(5)
    tensors = integrate_and_fire(current, membrane, theta, tau, hard=False, rule=BPTT())
    numbers = integrate_and_fire(
        current, membrane, theta.item(), tau.item(), hard=False, rule=BPTT()
    )
    assert torch.equal(tensors[0], numbers[0])
    (a,) = torch.autograd.grad(loss(*tensors), current)
    (b,) = torch.autograd.grad(loss(*numbers), current)
    assert torch.equal(a, b)


def test_a_second_derivative_is_refused_and_not_half_done():
    current, membrane, theta, tau = leaves(6)
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    spikes, _ = integrate_and_fire(weight * current, membrane, theta, tau, hard=True, rule=BPTT())
    with pytest.raises(Refusal, match="create_graph=True reached a layer of spikes"):
        torch.autograd.grad(spikes.sum(), current, create_graph=True)


@pytest.mark.parametrize("hard", [True, False])
def test_a_threshold_learns_where_the_input_has_no_gradient(hard):
    current, membrane, theta, tau = (value.detach() for value in leaves(7))
    theta.requires_grad_()
    ours = integrate_and_fire(current, membrane, theta, tau, hard=hard, rule=BPTT())

    def slope(u: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(formulas.triangle(u.detach().numpy()))

    theirs = oracle.unrolled(current, membrane, theta, tau, slope, hard=hard, detach=False)
    (a,), (b,) = (torch.autograd.grad(loss(*pair), theta) for pair in (ours, theirs))
    assert a != 0
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_an_unknown_kernel_is_refused_and_the_old_choice_comes_back():
    before = kernel_in_use()
    with pytest.raises(Refusal, match="it is one of auto, reference"), kernel("fast"):
        pass
    with pytest.raises(Refusal, match="T is 0"), kernel("reference"):
        Spiking(LIF(), 0)
    with kernel("reference"):
        assert kernel_in_use() == "reference (as chosen)"
    assert kernel_in_use() == before


@pytest.mark.parametrize(
    ("package", "device", "own"),
    [("llvmlite", "cpu", ("_fused", "_loops", "_vectors")), ("Triton", "cuda", ("_triton",))],
)
def test_without_its_compiler_the_reference_serves(package, device, own, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setitem(sys.modules, package.lower(), None)
    monkeypatch.setattr(_kernels, "_compiled", _kernels._compiled.__wrapped__)
    for name in own:
        monkeypatch.delitem(sys.modules, f"spikeproof.spiking.{name}", raising=False)
        monkeypatch.delattr(spiking, name, raising=False)
    assert kernel_in_use(device) == f"reference ({package} cannot be loaded)"
    spikes, _ = integrate_and_fire(torch.ones(2, 1, 1), None, 1.0, 1.0, hard=True, rule=BPTT())
    assert spikes.sum() == 2


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["auto", "reference"])
def test_a_membrane_of_low_currents_is_summed_in_float32(name, low):
    x = (torch.randn(8, 2, 50, generator=generator(8, "low")) + 0.3).to(low).requires_grad_()
    wide = x.detach().float().requires_grad_()
    with kernel(name):
        ours = integrate_and_fire(x, None, 1.0, 0.9, hard=False, rule=BPTT())
        theirs = integrate_and_fire(wide, None, 1.0, 0.9, hard=False, rule=BPTT())
    assert (ours[0].dtype, ours[1].dtype) == (low, torch.float32)
    assert torch.equal(ours[0].float(), theirs[0])
    assert torch.equal(ours[1], theirs[1])
    (a,) = torch.autograd.grad(ours[0].sum(), x)
    (b,) = torch.autograd.grad(theirs[0].sum(), wide)
    assert torch.equal(a, b.to(low))


def test_importing_the_room_imports_no_llvm():
    code = "import sys, spikeproof.spiking; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
