from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.models import CNN, Setting, build
from spikeproof.models._pools import AvgPool2d, _serves
from spikeproof.seeding import generator

THEIRS, OURS = nn.AvgPool2d(2), AvgPool2d()


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
