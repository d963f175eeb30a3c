"""The Triton kernel: compiled where there is a GPU, else by Triton's interpreter on the CPU.

The interpreter is chosen before the first import, for a whole process; without a GPU one test
runs this file again in such a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    HART,
    LIF,
    PDSG,
    RGA,
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Sigmoid,
    Spiking,
    StraightThrough,
    Surrogate,
    Triangle,
    _reference,
    integrate_and_fire,
    kernel,
    kernel_in_use,
)
from tests.contracts import kernel as contract

pytest.importorskip("triton", reason="Triton is not installed: pip install 'spikeproof[kernels]'")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
absent = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(), reason="no GPU here; interpreted below"
)


def on_device(function):
    """Runs where there is a GPU, and in the process that interprets."""
    return function if INTERPRETED else pytest.mark.gpu(absent(function))


EXACT = [  # no library's exponential, and a width whose reciprocal is exact
    BPTT(Triangle()),
    BPTT(Rectangle()),
    BPTT(StraightThrough()),
    BPTT(ATan(), detach_reset=True),
    HART(ATan()),
    ASSG(),
    ASSG(Triangle(0.5), detach_reset=False),
    BPTR(),
    RGA(),
    PDSG(),
]
CLOSE = [BPTT(Sigmoid()), BPTT(Gaussian()), BPTT(Exponential()), HART(Triangle(0.7))]


@pytest.fixture(autouse=True)
def _everything_there(monkeypatch):
    monkeypatch.setattr(contract, "generator", partial(generator, device=DEVICE))
    with torch.device(DEVICE if torch.cuda.is_available() else "cpu"):
        yield


def current(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "triton", device=DEVICE)) + 0.3


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or torch.cuda.is_available(), reason="this is that process")
def test_all_of_it_in_the_interpreter():
    there = {**os.environ, "TRITON_INTERPRET": "1"}
    options = ["-n", "0", "-q", "-p", "no:cacheprovider", "--timeout", "280"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, __file__],
        cwd=Path(__file__).parents[2],
        env=there,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert " passed" in ended.stdout


@on_device
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of infinities
@pytest.mark.parametrize("rule", [*EXACT, *CLOSE], ids=repr)
def test_equal_to_the_reference(rule, monkeypatch):
    if INTERPRETED:  # slowly: no train, and one of a segment and a rest
        monkeypatch.setattr(contract, "LENGTHS", (1, 17))
    contract.assert_kernel(rule, exact=rule in EXACT)


@dataclass(frozen=True)
class _Own(Surrogate):
    """A user's curve, of which no kernel knows."""

    height = 0.5

    @override
    def slope(self, u):
        return 0.5 / (1 + u.abs()) ** 2

    @override
    def primitive(self, u):
        return 0.5 + u / (1 + u.abs()) / 2

    @override
    def half_width(self, share):
        return share / (1 - share)


@on_device
@pytest.mark.parametrize("rule", [BPTT(_Own()), ASSG(_Own())], ids=lambda r: r.kind)
def test_a_curve_of_the_users_own_is_followed(rule):
    case = contract.Case(current(5, 3, 20), None, learned=False, hard=True)
    for ours, theirs in zip(case.run(rule, "auto", 3), case.run(rule, "reference", 3), strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture
def only_triton(monkeypatch):
    def refuse(*_):
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(_reference, "run", refuse)


@on_device
@pytest.mark.usefixtures("only_triton")
@pytest.mark.parametrize("rule", [BPTT(), ASSG(), PDSG(), HART()], ids=lambda r: r.kind)
def test_it_is_this_kernel_that_runs(rule):
    x = current(4, 2, 3).requires_grad_()
    spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule)
    spikes.sum().backward()
    with kernel("reference"), pytest.raises(AssertionError, match="was asked"):
        integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule)
    assert kernel_in_use(DEVICE).startswith("triton (Triton ")


@on_device
@pytest.mark.usefixtures("only_triton")
@pytest.mark.parametrize("what", ["double", "start", "broadcast", "thresholds", "smooth", "empty"])
def test_what_it_cannot_serve_is_the_references(what):
    x, start, theta = current(4, 2, 3), None, 1.0
    x = {"double": x.double(), "empty": x[:, :0]}.get(what, x)
    start = {"start": current(2, 3).double(), "broadcast": current(3)}.get(what)
    theta = torch.ones(3) if what == "thresholds" else 1.0
    with pytest.raises(AssertionError, match="was asked"):
        integrate_and_fire(x, start, theta, 0.5, hard=True, rule=BPTT(), smooth=what == "smooth")


@on_device
@pytest.mark.parametrize("rule", [BPTT(ATan()), HART(), ASSG(), PDSG()], ids=lambda r: r.kind)
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_half_the_bits_of_currents_and_spikes_and_all_of_membranes(low, rule):
    x = current(20, 3, 50).to(low)
    found = []
    for name in ("auto", "reference"):
        y = x.clone().requires_grad_()
        with kernel(name):
            spikes, after = integrate_and_fire(y, None, 1.0, 0.5, hard=True, rule=rule)
        assert (spikes.dtype, after.dtype) == (low, torch.float32)
        weights = torch.cos(torch.arange(spikes.numel())).view_as(spikes).to(low)
        found.append([spikes, after, *torch.autograd.grad((weights * spikes).sum(), y)])
    for a, b in zip(*found, strict=True):
        cut = INTERPRETED and a.dtype == torch.bfloat16  # it does not round what it stores
        torch.testing.assert_close(a, b, rtol=2**-7 if cut else 0, atol=0)
    assert 0.1 < found[0][0].float().mean() < 0.9


@on_device
def test_only_the_currents_are_kept_for_the_backward_pass():
    kept = []
    x = current(16, 4, 32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=BPTT())
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]
    kept.clear()
    held = current(1, 4, 32).expand(16, 4, 32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        integrate_and_fire(held, None, 1.0, 0.5, hard=True, rule=BPTT())
    assert [t.untyped_storage().nbytes() for t in kept] == [4 * 4 * 32]


@on_device
def test_of_a_long_train_the_membrane_is_kept_now_and_then():
    kept = []
    x = current(40, 4, 32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=BPTT())
    assert [t.shape for t in kept] == [(40, 4, 32), (3, 4, 32)]


@on_device
def test_a_current_that_was_overwritten_is_not_read_again():
    y = current(4, 2, 3).requires_grad_() * 1
    spikes, _ = integrate_and_fire(y, None, 1.0, 0.5, hard=True, rule=BPTT())
    with torch.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


@on_device
def test_the_order_in_memory_is_kept():
    x = current(6, 4, 5, 5).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    spikes, _ = integrate_and_fire(x.requires_grad_(), None, 1.0, 0.5, hard=True, rule=BPTT())
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(spikes.sum(), x)
    assert slope.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@on_device
@pytest.mark.parametrize("rule", [BPTT(ATan()), HART(ATan())], ids=lambda r: r.kind)
def test_only_the_membrane_is_used(rule):
    x = current(4, 2, 3).requires_grad_()
    slopes = []
    for name in ("auto", "reference"):
        with kernel(name):
            _, after = integrate_and_fire(x, None, 1.0, 0.5, hard=False, rule=rule)
            slopes += torch.autograd.grad(after.sum(), x)
    assert torch.equal(*slopes)


@on_device
def test_a_second_derivative_is_refused():
    x = current(4, 2, 3).requires_grad_()
    spikes, _ = integrate_and_fire(x * 1, None, 1.0, 0.5, hard=True, rule=BPTT())
    with pytest.raises(Refusal, match="create_graph=True reached"):
        torch.autograd.grad(spikes.sum(), x, create_graph=True)


@on_device
@pytest.mark.parametrize("frozen", [False, True])
def test_a_memory_is_used_and_moved_alike(frozen):
    rule, found = ASSG(), []
    for name in ("auto", "reference"):
        memory = rule.memory()
        how = {"hard": True, "rule": rule, "memory": memory}
        with kernel(name):
            for turn in range(3):
                memory.frozen = frozen and turn > 0
                x = (current(4, 3, 5) * (1 + turn)).requires_grad_()
                spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, **how)
                found += torch.autograd.grad(spikes.sum(), x)
            memory.keep(torch.tensor([2, 0]))
            x = current(4, 2, 5).requires_grad_()
            spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, **how)
            found += [*torch.autograd.grad(spikes.sum(), x), *memory.means]
            with pytest.raises(Refusal, match="remembers potentials of shape"):
                integrate_and_fire(current(4, 1, 5).requires_grad_(), None, 1.0, 0.5, **how)
    half = len(found) // 2
    for a, b in zip(found[:half], found[half:], strict=True):
        assert torch.equal(a, b)


@on_device
def test_a_layer_learns_its_threshold_through_it():
    layer = Spiking(LIF(learn_theta=True, learn_tau=True), 4).to(DEVICE)
    slopes = []
    for name in ("auto", "reference"):
        with kernel(name):
            spikes = layer(current(8, 30))
            slopes.append(torch.autograd.grad(spikes.sum(), layer.learned.values()))
    for a, b in zip(*slopes, strict=True):
        assert a != 0
        torch.testing.assert_close(a, b)
