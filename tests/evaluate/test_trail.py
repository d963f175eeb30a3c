from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikeproof.attacks import Margin, StepCE
from spikeproof.errors import Refusal
from spikeproof.evaluate import RELATIVE, trail
from spikeproof.evaluate._trail import joined, operations
from spikeproof.models import CNN, WRN, Setting, SEWResNet, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import ASSG, BPTR, BPTT, CBA, HART, ATan

RULES = (None, BPTT(ATan()), BPTR(), HART(), ASSG(), CBA())


def some(*shape, name="x"):
    return torch.rand(shape, generator=generator(0, name))


def dense(*weights):
    with isolated(0):
        layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    layer.weight = nn.Parameter(torch.tensor(weights))
    return layer


@pytest.fixture(scope="module")
def lively():
    """A spiking network whose neurons fire, so that gradients reach the input."""
    net = build(CNN((4, 6), 12, pool="max"), Setting(channels=1, size=8, T=3), 1).eval()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(3)
    return net


def test_the_trail_of_a_linear_network_is_its_closed_form():
    weights = [[1.0, -2.0, 0.0, 4.0], [0.5, 1.0, 0.0, 0.0], [0.0, 0.25, 0.0, 1.0]]
    x, y = torch.tensor([[1.0, 0.0, 2.0, -1.0], [0.5, 0.5, 0.0, 0.0]]), torch.tensor([2, 0])
    found = trail(dense(*weights), x, y)
    delta = (x @ torch.tensor(weights).T).softmax(1) - functional.one_hot(y, 3)
    gradient = (delta @ torch.tensor(weights)).double()
    assert [op.kind for op in found.operations] == ["input", "linear", "output"]
    for name in ("input", ""):
        op = found[name]
        assert op.entries == (4, 4)
        assert op.l0 == (3, 3)
        assert op.zeros == (0.25, 0.25)
        assert op.l1 == pytest.approx(gradient.abs().sum(1).tolist(), rel=1e-6)
        assert op.l2 == pytest.approx(gradient.norm(dim=1).tolist(), rel=1e-6)
        assert op.largest == pytest.approx(gradient.abs().amax(1).tolist(), rel=1e-6)
    assert found["output"].l1 == pytest.approx(delta.abs().sum(1).tolist(), rel=1e-6)
    assert found[""].weights == 12
    assert found[""].weight_l0 == (9, 6)  # a column of the weight for every input that is not 0
    assert found[""].weight_density == (0.75, 0.5)


def test_shares_near_zero_are_relative_to_the_largest_entry_of_the_sample():
    sizes = [1.0, 0.05, 0.005, 0.0005, 5e-6, 0.0]
    net = dense(sizes, [0.0] * 6)
    found = trail(net, torch.zeros(1, 6), torch.tensor([0]), loss=Margin())["input"]
    wanted = [sum(size <= share for size in sizes) / 6 for share in RELATIVE]
    assert [row[0] for row in found.near] == pytest.approx(wanted)
    assert found.l0 == (5,)


@pytest.mark.parametrize(("pool", "share"), [(nn.MaxPool2d, 1 - 1 / 4), (nn.AvgPool2d, 0.0)])
def test_a_max_pool_lets_one_entry_of_four_through_and_an_average_pool_all(pool, share):
    with isolated(0):
        net = nn.Sequential(pool(2), nn.Flatten(), nn.Linear(12, 5))
    x = torch.randperm(96, generator=generator(0, "distinct")).reshape(2, 3, 4, 4) / 96
    op = trail(net, x, torch.tensor([1, 4])).operations[1]
    assert op.kind in ("max_pool", "avg_pool")
    assert op.zeros == (share, share)


def test_the_gradient_at_an_operation_is_its_own_where_an_input_is_shared():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = dense([1.0, 0.0], [0.0, 2.0]), dense([0.0, 3.0], [1.0, 0.0])

        def forward(self, x):
            return self.left(x) + self.right(x)

    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([1])
    found = trail(Two(), x, y, loss=Margin())
    # the margin is the first logit less the second, so both sums get (1, -1)
    assert found["add"].l1 == (2.0,)
    assert found["left"].l1 == (1.0 + 2.0,)
    assert found["right"].l1 == (1.0 + 3.0,)
    assert found["input"].l1 == (abs(1.0 - 1.0) + abs(3.0 - 2.0),)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_sample_has_the_same_trail_in_any_company(lively, rule):
    x, y = some(5, 1, 8, 8), torch.arange(5)
    whole = trail(lively, x, y, rule)
    order = torch.tensor([3, 0, 4])
    part = trail(lively, x[order], y[order], rule)
    for one, other in zip(whole.operations, part.operations, strict=True):
        assert one.name == other.name
        for i, j in enumerate(order.tolist()):
            for name in ("entries", "l0", "l1", "l2", "largest"):
                assert getattr(one, name)[j] == getattr(other, name)[i], (one.name, name)
            assert [row[j] for row in one.near] == [row[i] for row in other.near]
        assert one.weight_l0[3:4] == other.weight_l0[:1]
    assert whole["input"].l1[0] > 0
    assert joined([trail(lively, x[:2], y[:2], rule), trail(lively, x[2:], y[2:], rule)]) == whole


def test_the_gradient_is_that_of_an_independent_backward_pass(lively):
    x, y = some(3, 1, 8, 8), torch.tensor([1, 2, 3])
    found = trail(lively, x, y)
    for i in range(3):
        at = x[i : i + 1].clone().requires_grad_()
        loss = functional.cross_entropy(lively(at), y[i : i + 1])
        weight = lively.layers[0].weight
        g, w = torch.autograd.grad(loss, [at, weight])
        assert found["input"].l2[i] == pytest.approx(float(g.norm()), rel=1e-6)
        assert found["input"].l0[i] == int(g.count_nonzero())
        assert found["layers.0"].weight_l0[i] == int(w.count_nonzero())


def test_residual_sums_and_all_layers_are_found_in_their_order():
    setting = Setting(channels=1, size=16, T=2)
    for architecture, sums in ((SEWResNet(width=1 / 16), 8), (WRN(10, 1, width=1 / 8), 3)):
        net = build(architecture, setting).eval()
        found = trail(net, some(1, 1, 16, 16), torch.tensor([0]))
        names = [op.name for op in found.operations]
        assert names[0] == "input"
        assert names[-1] == "output"
        assert sum(op.kind == "add" for op in found.operations) == sums
        assert {*operations(net)} <= {*names}
        kinds = {op.kind for op in found.operations}
        assert kinds >= {"conv", "norm", "neuron", "linear", "avg_pool"}
        assert "other" not in kinds


def test_the_model_is_left_as_it_was(lively):
    lively.train()
    trail(lively, some(1, 1, 8, 8), torch.tensor([0]), ASSG())
    assert all(p.requires_grad and p.grad is None for p in lively.parameters())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in lively.modules())
    assert all(module.training for module in lively.modules())
    lively.eval()


class Foreign(nn.Module):
    """Steps of time in a loop, an activation in place, and a branch that no gradient enters."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)
        self.aside = nn.Linear(4, 3)

    def forward(self, x):
        total = self.aside(x.detach())
        for _ in range(3):
            total = total + self.last(self.relu(self.first(x)))
        return total


def test_a_foreign_network_is_followed_through_its_leaves():
    with isolated(0):
        foreign = Foreign()
    with torch.no_grad():
        for p in foreign.parameters():
            p.copy_(some(*p.shape, name=str(tuple(p.shape))) - 0.3)
    x, y = some(2, 4), torch.tensor([0, 1])
    found = trail(foreign, x, y)
    assert found["first"].entries == (12, 12)  # three calls
    assert found["aside"].zeros == (1.0, 1.0)
    assert found["aside"].l1 == (0.0, 0.0)
    at = x[:1].clone().requires_grad_()
    (g,) = torch.autograd.grad(functional.cross_entropy(foreign(at), y[:1]), at)
    assert found["input"].l1[0] == pytest.approx(float(g.abs().sum()), rel=1e-6)


def test_what_cannot_be_followed_is_refused(lively):
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :3]

    with pytest.raises(Refusal, match="no gradient enters Cut"):
        trail(Cut(), some(1, 4), torch.tensor([0]))
    with pytest.raises(Refusal, match="single steps"):
        trail(lively, some(1, 1, 8, 8), torch.tensor([0]), loss=StepCE())
