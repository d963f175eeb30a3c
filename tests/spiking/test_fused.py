from __future__ import annotations

import gc
import os
import pickle
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.catalogue import KINDS
from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import (
    ASSG,
    BPTT,
    HART,
    PDSG,
    ATan,
    Rectangle,
    Rule,
    StraightThrough,
    Surrogate,
    Triangle,
    _reference,
    integrate_and_fire,
    kernel,
    kernel_in_use,
)
from tests.contracts.kernel import assert_kernel

_fused = pytest.importorskip("spikeproof.spiking._fused")

PLAIN = (Triangle, Rectangle, ATan, StraightThrough)  # no library's exponential
CURVES = [member() for member in KINDS[Surrogate]]
RULES = [
    *(BPTT(curve) for curve in CURVES),
    *(BPTT(curve, detach_reset=True) for curve in (Triangle(0.5), ATan())),
    *(HART(curve) for curve in CURVES),
    *(ASSG(curve) for curve in CURVES if curve != StraightThrough()),
    ASSG(Triangle(0.7), detach_reset=False),
    PDSG(detach_reset=True),
    *(member() for member in KINDS[Rule] if member not in (BPTT, HART, ASSG)),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_equal_to_the_reference(rule):
    surrogate = getattr(rule, "surrogate", StraightThrough())
    assert_kernel(rule, exact=isinstance(surrogate, PLAIN))


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


def test_a_curve_of_the_users_own_is_followed():
    assert_kernel(BPTT(_Own()), exact=True)


@pytest.fixture
def only_fused(monkeypatch):
    def refuse(*_):
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(_reference, "run", refuse)


def current(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "fused")) + 0.3


@pytest.mark.usefixtures("only_fused")
@pytest.mark.parametrize("rule", [BPTT(), ASSG(), PDSG(), HART()], ids=lambda r: r.kind)
def test_it_is_the_fused_kernel_that_runs(rule):
    x = current(4, 2, 3).requires_grad_()
    spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule)
    spikes.sum().backward()
    with torch.no_grad():
        integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule)
    with kernel("reference"), pytest.raises(AssertionError, match="was asked"):
        integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule)


@pytest.mark.usefixtures("only_fused")
@pytest.mark.parametrize(
    ("x", "start", "theta", "smooth"),
    [
        (current(4, 2, 3).double(), None, 1.0, False),
        (current(4, 2, 3), current(2, 3).double(), 1.0, False),
        (current(4, 2, 3), current(3), 1.0, False),
        (current(4, 2, 3), None, torch.ones(3), False),
        (current(4, 2, 3), None, 1.0, True),
        (current(4, 0, 3), None, 1.0, False),
    ],
    ids=["double", "start", "broadcast", "thresholds", "smooth", "empty"],
)
def test_what_it_cannot_serve_is_the_references(x, start, theta, smooth):
    with pytest.raises(AssertionError, match="was asked"):
        integrate_and_fire(x, start, theta, 0.5, hard=True, rule=BPTT(), smooth=smooth)


def test_only_the_currents_are_kept_for_the_backward_pass():
    kept = []
    x = current(8, 4, 32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=BPTT())
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


@pytest.mark.parametrize("steps", [1, 5, 8])
def test_a_held_current_is_kept_once_and_gets_one_gradient(steps):
    kept, x = [], current(1, 4, 32).requires_grad_()
    weights = current(steps, 4, 32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        held, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=BPTT(), steps=steps)
    assert [(t.data_ptr(), t.shape) for t in kept] == [(x.data_ptr(), x.shape)]
    (ours,) = torch.autograd.grad((weights * held).sum(), x)
    seen, _ = integrate_and_fire(x.expand(steps, 4, 32), None, 1.0, 0.5, hard=True, rule=BPTT())
    (theirs,) = torch.autograd.grad((weights * seen).sum(), x)
    assert torch.equal(held, seen)
    assert torch.equal(ours, theirs)


def test_a_current_that_is_overwritten_before_the_backward_pass_is_noticed():
    y = current(4, 2, 3).requires_grad_() * 1
    spikes, _ = integrate_and_fire(y, None, 1.0, 0.5, hard=True, rule=BPTT())
    with torch.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


def test_large_trains_are_written_past_the_caches_and_are_the_same(monkeypatch):
    found = []
    for least in (1 << 40, 1):
        monkeypatch.setattr(_fused, "PAST_CACHES", least)
        for rule in (BPTT(), ASSG(), HART(), PDSG()):
            x = current(9, 4, 64).requires_grad_()
            how = {"hard": False, "rule": rule, "memory": rule.memory()}
            spikes, after = integrate_and_fire(x, None, 1.0, 0.5, **how)
            found += [spikes, after, *torch.autograd.grad((spikes * x.detach()).sum(), x)]
    half = len(found) // 2
    for a, b in zip(found[:half], found[half:], strict=True):
        assert torch.equal(a, b)


def test_the_order_in_memory_is_kept():
    x = current(6, 4, 5, 5).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    spikes, _ = integrate_and_fire(x.requires_grad_(), None, 1.0, 0.5, hard=True, rule=BPTT())
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(spikes.sum(), x)
    assert slope.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_only_the_membrane_is_used():
    x = current(4, 2, 3).requires_grad_()
    slopes = []
    for name in ("auto", "reference"):
        with kernel(name):
            _, after = integrate_and_fire(x, None, 1.0, 0.5, hard=False, rule=BPTT())
            slopes += torch.autograd.grad(after.sum(), x)
    assert torch.equal(*slopes)


def test_a_second_derivative_is_refused():
    x = current(4, 2, 3).requires_grad_()
    spikes, _ = integrate_and_fire(x * 1, None, 1.0, 0.5, hard=True, rule=BPTT())
    with pytest.raises(Refusal, match="create_graph=True reached"):
        torch.autograd.grad(spikes.sum(), x, create_graph=True)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_memory_is_used_and_moved_alike(frozen):
    rule, found = ASSG(), []
    for name in ("auto", "reference"):
        memory = rule.memory()
        with kernel(name):
            for turn in range(3):
                memory.frozen = frozen and turn > 0
                x = (current(4, 3, 5) * (1 + turn)).requires_grad_()
                how = {"hard": True, "rule": rule, "memory": memory}
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


def remembered(name: str, story: str, steps: int) -> list[Tensor]:
    """Returns gradients and means: passes there (f) and, of the first or last waiting, back."""
    rule, found, waiting = ASSG(), [], []
    memory, size = rule.memory(), 4
    with kernel(name):
        for turn, word in enumerate(story):
            if word in "fz":
                memory.frozen = word == "z"
                x = (current(steps, size, 5) * (1 + turn)).requires_grad_()
                start = current(1, size, 5)[0]
                spikes, _ = integrate_and_fire(
                    x, start, 1.0, 0.5, hard=True, rule=rule, memory=memory
                )
                waiting.append((spikes, x))
            elif word in "bl":
                spikes, x = waiting.pop(0 if word == "b" else -1)
                found += torch.autograd.grad(spikes.cos().sum(), x, retain_graph=True)
                found += torch.autograd.grad(spikes.sum(), x)
            elif word == "k":
                size = 2
                memory.keep(torch.tensor([2, 0]))
            elif word == "p":
                memory = pickle.loads(pickle.dumps(memory))  # noqa: S301
            elif word == "x":
                memory.forget()
            elif word == "m":
                found += [each.clone() for each in memory.means or ()]
    return found


@pytest.mark.parametrize("steps", [3, 17])
@pytest.mark.parametrize(
    "story",
    ["fm", "fbm", "ffblm", "fflb", "fmbm", "ffm", "fxbm", "fkmbfb", "fzlbm", "fpmfb", "zfzlllm"],
)
def test_a_memory_does_not_depend_on_when_gradients_are_asked_for(story, steps):
    ours, theirs = (remembered(name, story, steps) for name in ("auto", "reference"))
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_default_dtype_changes_nothing():
    rule, before = ASSG(), torch.get_default_dtype()
    x = current(4, 3, 5).requires_grad_()
    found = []
    for dtype in (torch.float32, torch.float64):
        memory = rule.memory()
        try:
            torch.set_default_dtype(dtype)
            spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule, memory=memory)
            means = [each.clone() for each in memory.means]
            found.append([spikes, *means, *torch.autograd.grad(spikes.sum(), x)])
        finally:
            torch.set_default_dtype(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("what", ["currents", "membrane"])
def test_what_a_late_look_needs_may_not_be_overwritten(what):
    rule = ASSG()
    memory, given = rule.memory(), {"currents": current(4, 3, 5), "membrane": current(1, 3, 5)[0]}
    theta = torch.tensor(1.0, requires_grad=True)
    how = {"hard": True, "rule": rule, "memory": memory}
    spikes, _ = integrate_and_fire(*given.values(), theta, 0.5, **how)
    given[what].add_(1)
    with pytest.raises(Refusal, match="overwritten"):
        _ = memory.means
    with pytest.raises(RuntimeError, match="inplace"):
        spikes.sum().backward()


def test_a_threshold_that_changed_before_its_gradient_is_noticed():
    theta = torch.tensor(1.0, requires_grad=True)
    spikes, _ = integrate_and_fire(current(4, 3, 5), None, theta, 0.5, hard=True, rule=BPTT())
    with torch.no_grad():
        theta.fill_(0.5)
    with pytest.raises(RuntimeError, match="inplace"):
        spikes.sum().backward()


def test_a_memory_holds_no_graph():
    rule = ASSG()
    memory = rule.memory()
    x = current(4, 3, 5).requires_grad_()
    alive = weakref.ref(x)
    integrate_and_fire(x * 1, None, 1.0, 0.5, hard=True, rule=rule, memory=memory)
    del x
    gc.collect()
    assert alive() is None
    assert memory.means is not None


def test_a_memory_starts_frozen_without_keeping_anything():
    rule = ASSG()
    memory = rule.memory()
    memory.frozen = True
    x = current(4, 3, 5).requires_grad_()
    integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=rule, memory=memory)
    assert memory.means is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_computes_too():
    before = torch.get_num_threads()
    x = current(8, 8, 4096)
    torch.set_num_threads(2)
    try:
        expected, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=BPTT())
        child = os.fork()
        if child == 0:
            spikes, _ = integrate_and_fire(x, None, 1.0, 0.5, hard=True, rule=BPTT())
            os._exit(0 if bool((spikes.numpy() == expected.numpy()).all()) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(before)


def test_it_is_named():
    assert kernel_in_use().startswith("fused (llvmlite ")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_network_answers_to_other_inputs():
    model = build(CNN((4,), 8), Setting(T=2, size=8), seed=1).eval()
    x = torch.rand((2, 2, 3, 8, 8), generator=generator(0, "traced"))
    with torch.no_grad():
        traced = torch.jit.trace(model, x[0])
        assert torch.equal(traced(x[1]), model(x[1]))
