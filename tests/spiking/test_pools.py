from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from spikeproof.catalogue import KINDS
from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import (
    ASSG,
    BPTT,
    HART,
    IF,
    LIF,
    PDSG,
    AvgPool2d,
    Spiking,
    Surrogate,
    forget,
    kernel,
    recomputed,
    recorded,
    seen_through,
    smoothed,
    stream,
)
from spikeproof.spiking._pools import _serves, in_turn

THEIRS, OURS = nn.AvgPool2d(2), AvgPool2d()
SHAPES = [(2, 19, 4, 6), (1, 16, 2, 2), (3, 2, 2, 4), (1, 33, 6, 2)]


def maps(*shape: int, kind: torch.dtype = torch.float32, last: bool = True) -> torch.Tensor:
    x = torch.randn(shape, generator=generator(0, "maps"), dtype=torch.float64).to(kind)
    return x.to(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 6, 4), (2, 16, 2, 2), (2, 3, 7, 4)])
def test_it_is_pytorchs_bit_for_bit(shape, last, kind):
    x = maps(*shape, kind=kind, last=last).requires_grad_()
    ours, theirs = OURS(x), THEIRS(x)
    assert torch.equal(ours, theirs)
    assert ours.stride() == theirs.stride()
    slope = maps(*ours.shape, kind=kind, last=last)
    (own,) = torch.autograd.grad(ours, x, slope)
    (other,) = torch.autograd.grad(theirs, x, slope)
    assert torch.equal(own, other)
    assert own.stride() == other.stride()


def test_a_gradient_of_any_layout_is_spread_the_same():
    x = maps(2, 3, 4, 4).requires_grad_()
    for slope in (maps(2, 3, 2, 2, last=False), torch.ones(()).expand(2, 3, 2, 2)):
        (own,) = torch.autograd.grad(OURS(x), x, slope)
        (other,) = torch.autograd.grad(THEIRS(x), x, slope)
        assert torch.equal(own, other)


def test_it_keeps_nothing_and_pytorchs_keeps_its_input():
    x, kept = maps(2, 3, 4, 4).requires_grad_(), []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with hooks:
        OURS(x)
    assert kept == []
    with hooks:
        THEIRS(x)
    assert len(kept) == 1


def test_its_gradient_has_a_gradient():
    x, found = maps(2, 3, 4, 4).requires_grad_(), []
    assert _serves(x)
    for pool in (OURS, THEIRS):
        (slope,) = torch.autograd.grad(pool(x).pow(3).sum(), x, create_graph=True)
        found += torch.autograd.grad(slope.square().sum(), x)
    assert found[0].any()
    assert torch.equal(*found)


def test_transformed_functions_are_left_to_pytorch():
    x = maps(2, 3, 4, 4)
    each = torch.func.vmap(torch.func.grad(lambda v: OURS(v[None]).square().sum()))(x)
    (whole,) = torch.autograd.grad(OURS(x.requires_grad_()).square().sum(), x)
    assert torch.equal(each, whole)


def test_a_traced_network_holds_pytorchs_own():
    with pytest.warns(DeprecationWarning, match="jit.trace"):
        graph = str(torch.jit.trace(OURS, maps(1, 2, 4, 4).requires_grad_()).graph)
    assert "aten::avg_pool2d" in graph


def test_networks_pool_with_it_and_their_files_do_not_know():
    model = build(CNN((4, 4), 8), Setting(T=2, size=8))
    pools = [m for m in model.modules() if isinstance(m, nn.AvgPool2d)]
    assert [type(pool) for pool in pools] == [AvgPool2d] * 2
    assert repr(pools[0]) == repr(THEIRS)
    assert not pools[0].state_dict()


def pair(steps: int = 4, *, opens_time: bool = False, **neuron) -> nn.Sequential:
    return nn.Sequential(Spiking(LIF(**neuron), steps, opens_time=opens_time), AvgPool2d())


def currents(layers: nn.Sequential, *shape: int, last: bool = True) -> torch.Tensor:
    rows = shape[0] * (1 if layers[0].opens_time else layers[0].T)
    return (maps(rows, *shape[1:], last=last) + 0.3).requires_grad_()


def found(run, layers: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Returns outputs and gradients, that of the currents first."""
    y = run(layers, x)
    slope = torch.cos(torch.arange(y.numel())).view_as(y)
    with torch.no_grad():
        assert torch.equal(run(layers, x), y)
    return [y, *torch.autograd.grad(y, [x, *layers.parameters()], slope)]


def in_two(layers: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return layers(x)


@pytest.fixture
def as_one(monkeypatch):
    """Runs neurons and their pool, and sees that the pool is not called."""
    pytest.importorskip("spikeproof.spiking._fused")
    ran, run = [], AvgPool2d.forward
    monkeypatch.setattr(AvgPool2d, "forward", lambda p, x: ran.append(p) or run(p, x))

    def one(layers: nn.Module, x: torch.Tensor) -> torch.Tensor:
        ran.clear()
        y = in_turn(layers, x)
        assert not ran
        return y

    return one


def assert_same(layers: nn.Sequential, x: torch.Tensor, one=in_turn) -> None:
    ours, theirs = found(one, layers, x), found(in_two, layers, x)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride() or len(a) == 1  # of one row all strides say the same
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("curve", KINDS[Surrogate], ids=lambda kind: kind.__name__)
def test_neurons_and_their_pool_are_one_pass_bit_for_bit(as_one, curve, reset):
    rules = (BPTT(curve(), detach_reset=reset == "soft"), HART(curve()))
    for rule, shape in zip(rules, SHAPES, strict=False):
        layers = pair(reset=reset, rule=rule)
        assert_same(layers, currents(layers, *shape), as_one)


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("steps", [1, 4, 19])
def test_it_is_one_pass_over_any_time_and_shape(as_one, steps, opens):
    for shape in SHAPES:
        layers = pair(steps, opens_time=opens)
        assert_same(layers, currents(layers, *shape), as_one)


@pytest.mark.parametrize("steps", [3, 9])
def test_learned_thresholds_and_leaks_get_their_gradients(as_one, steps):
    for detach in (True, False):
        rule = BPTT(detach_reset=detach)
        layers = pair(steps, reset="soft", rule=rule, learn_theta=True, learn_tau=True)
        assert_same(layers, currents(layers, 2, 5, 4, 4), as_one)


@pytest.mark.parametrize("steps", [4, 9])
def test_an_adaptive_rule_remembers_the_same(as_one, steps):
    layers = seen_through(pair(steps), ASSG())
    memory, kept = layers[0].memory, []
    for run in (as_one, in_two):
        forget(layers)
        memory.frozen = False
        for scale in (1, 2, 3):
            x = (currents(layers, *SHAPES[0]).detach() * scale).requires_grad_()
            memory.frozen = scale == 3
            kept += [*torch.autograd.grad(run(layers, x).sum(), x), *memory.means]
    half = len(kept) // 2
    for a, b in zip(kept[:half], kept[half:], strict=True):
        assert torch.equal(a, b)


def test_threads_and_writing_past_the_caches_do_not_matter(monkeypatch):
    fused = pytest.importorskip("spikeproof.spiking._fused")
    before, results = torch.get_num_threads(), []
    layers = pair(8, learn_theta=True, learn_tau=True)
    x = currents(layers, 6, 48, 16, 16)
    try:
        for threads, least in ((1, 1 << 40), (3, 1 << 40), (2, 1)):
            torch.set_num_threads(threads)
            monkeypatch.setattr(fused, "PAST_CACHES", least)
            results.append(found(in_turn, layers, x))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_pair_keeps_its_currents_alone():
    pytest.importorskip("spikeproof.spiking._fused")
    layers, kept = pair(), []
    x = currents(layers, 2, 3, 4, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = in_turn(layers, x)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]
    assert y.requires_grad


@pytest.mark.parametrize(
    ("layers", "shape", "last", "name"),
    [
        (pair(), (2, 3, 5, 4), True, "auto"),
        (pair(), (2, 3, 4, 3), True, "auto"),
        (pair(), (2, 3, 4, 4), False, "auto"),
        (pair(), (2, 3, 4, 4), True, "reference"),
        (pair(), (0, 3, 4, 4), True, "auto"),
        (pair(), (2, 1, 4, 4), True, "auto"),
        (seen_through(pair(), PDSG()), (2, 3, 4, 4), True, "auto"),
        (smoothed(pair()), (2, 3, 4, 4), True, "auto"),
    ],
    ids=["height", "width", "order", "reference", "empty", "one channel", "rule", "smooth"],
)
def test_what_no_pass_serves_is_two(layers, shape, last, name):
    x = currents(layers, *shape, last=last)
    with kernel(name):
        assert layers[0].pooled(x) is None
        assert_same(layers, x)


@pytest.mark.parametrize("place", [0, 1, None])
@pytest.mark.parametrize(
    "watch",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_who_watches_either_sees_it_run(watch, place):
    layers, seen = pair(), []
    x = currents(layers, 2, 3, 4, 4)
    expected = found(in_turn, layers, x)
    if place is None:
        watched = getattr(torch_module, watch.replace("register", "register_module"))
    else:
        watched = getattr(layers[place], watch)
    hook = watched(lambda module, *_: seen.append(module) and None)
    try:
        results = found(in_turn, layers, x)
    finally:
        hook.remove()
    assert seen.count(layers[place or 0]) == (1 if "backward" in watch else 2)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize("place", [0, 1, None])
def test_what_somebody_compiled_is_run_as_compiled(place):
    layers, calls = pair(), []
    part = layers if place is None else layers[place]
    part._compiled_call_impl = lambda x: calls.append(1) or part._call_impl(x)
    in_turn(layers, currents(layers, 2, 3, 4, 4))
    assert calls == [1]


def test_a_pool_that_comes_after_something_else_runs_by_itself():
    neurons, pool = pair()
    layers = nn.Sequential(pool, neurons, pool, pool, neurons, nn.Identity(), pool)
    assert_same(layers, currents(pair(), 2, 3, 16, 32))


def test_a_network_and_its_views_run_so(as_one, monkeypatch):
    model = build(CNN((4, 4), 8), Setting(T=4, size=8, neuron=IF(theta=0.2)), seed=1).eval()
    x = torch.rand((3, 3, 8, 8), generator=generator(0, "images")).requires_grad_()
    first, state = stream(model, x, 1)
    whole = torch.cat([first, stream(model, x, 3, state)[0]]).mean(0)
    rules = (HART(), ASSG())
    views = [model, recomputed(model), *(seen_through(model, rule) for rule in rules)]
    with monkeypatch.context() as context:
        context.setattr(AvgPool2d, "forward", None)
        ours = [(y := view(x), *torch.autograd.grad(y.square().sum(), x)) for view in views]
    views[-1] = seen_through(model, rules[-1])  # one that remembers nothing
    for view, (logits, slope) in zip(views, ours, strict=True):
        with recorded(view) as records:
            y = view(x)
        assert torch.equal(y, logits)
        assert torch.equal(y, whole)
        assert torch.equal(*torch.autograd.grad(y.square().sum(), x), slope)
        assert all(one.spikes.sum() > 0 for one in records.values())
