from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.interop import Adopted, adopt, adopt_or_lend, lend
from spikeproof.interop._proof import relax
from spikeproof.seeding import isolated
from tests.interop.networks import samples
from tests.interop.test_handwritten import Stateful


class Two(nn.Module):
    """Two layers of neurons; the second one's methods may say something else than its forward."""

    def __init__(self, *, off=0.0):
        super().__init__()
        self.first, self.second, self.off = Stateful(), Stateful(), off
        charge = self.second.charge

        def other(current, state):
            distance, after = charge(current, state)
            return distance + off, after

        self.second.charge = other

    def forward(self, x):
        self.first.u = self.second.u = None
        return sum(self.second(3 * x * self.first(x)) for _ in range(4))[:, :4] / 4


def test_equal_bits_are_a_proof_and_the_samples_are_counted():
    told = adopt(Two(), [samples(30), samples(5)]).adoption
    assert (told.samples, told.apart, told.tolerance) == (35, 0.0, 0.0)
    assert "bit for bit on 35 samples" in str(told)


def test_the_first_layer_that_differs_is_named():
    with pytest.raises(Refusal, match="layer second is the first to differ"):
        adopt(Two(off=0.2), [samples()])


def test_a_difference_within_the_tolerance_is_told():
    told = adopt(Two(off=0.2), [samples(200)], tolerance=1.0).adoption
    assert 0 < told.apart <= 1
    assert f"within {told.apart:.2g}" in str(told)
    with pytest.raises(Refusal, match="layer second"):
        adopt(Two(off=0.2), [samples(200)], tolerance=0.01)


def test_what_is_no_number_is_equal_to_itself_alone():
    class Undefined(Two):
        def forward(self, x):
            return super().forward(x) / (x[:, :4] > 0)

    assert adopt(Undefined(), [samples()]).adoption.apart == 0.0


def test_a_failed_proof_falls_back_and_says_why():
    net, x = Two(off=0.2), samples()
    other = adopt_or_lend(net, [x])
    assert other.adoption.replaced == ()
    assert other.adoption.own == ("first", "second")
    assert "layer second is the first to differ" in other.adoption.refused
    assert torch.equal(other(x), net(x))
    assert lend(net, [x]).adoption.refused == ""


def test_a_network_that_fails_by_itself_is_told_from_one_that_fails_with_ours():
    class Peeks(Two):
        def forward(self, x):
            out = super().forward(x)
            return out if type(self.first) is Stateful else out.missing

    with pytest.raises(Refusal, match="fails in eval mode on samples of shape"):
        adopt(Two(), [torch.tensor(1.0).expand(3)])
    with pytest.raises(Refusal, match="with our neurons in it the network fails"):
        adopt(Peeks(), [samples()])
    told = adopt_or_lend(Peeks(), [samples()]).adoption
    assert (told.own, told.samples) == (("first", "second"), 0)
    assert "with our neurons in it the network fails" in told.refused
    assert "could be proven" in told.kept["first"]
    assert "logits" not in str(told)


def test_no_samples_and_no_logits_are_no_proof():
    class Pair(Two):
        def forward(self, x):
            return super().forward(x), 0

    with pytest.raises(Refusal, match="no samples"):
        adopt(Two(), [])
    with pytest.raises(Refusal, match="returns a tuple"):
        adopt(Pair(), [samples()])


def test_what_remembers_and_is_no_neuron_is_no_proof():
    class Counts(Two):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + self.calls // 2

    with pytest.raises(Refusal, match="differently the second time"):
        adopt(Counts(), [samples()])


def test_noise_is_the_same_on_both_sides():
    class Noisy(Two):
        def forward(self, x):
            return super().forward(x + torch.rand_like(x))

    with isolated(1):
        told = adopt(Noisy(), [samples()]).adoption
    assert (told.apart, told.leftover) == (0.0, ())


def test_the_network_is_left_as_it_was():
    net = Two().train()
    net.first.eval()
    net.first.u = before = torch.ones(3, 6)
    ours = adopt(net, [samples()])
    assert net.first.u is before
    assert (net.training, net.first.training, net.second.training) == (True, False, True)
    assert isinstance(ours, Adopted)
    assert ours.net.first.training is False
    assert not net.first._forward_hooks
    relax(nn.ReLU())  # has nothing to forget


def test_what_a_network_counts_keeps_and_draws_is_left_as_it_was():
    class Busy(Two):
        def __init__(self):
            super().__init__()
            self.calls, self.log, self.draw = 0, [], torch.Generator().manual_seed(3)
            self.register_buffer("total", torch.zeros(()))
            self.deep, self.row = {"a": [torch.zeros(2), deque()]}, np.zeros(3)

        def forward(self, x):
            self.calls += 1
            self.total += 1
            self.deep["a"][0].add_(1)
            self.deep["a"][1].append(1)
            self.row += 1
            self.log.append(len(x))
            self.last = torch.rand(1, generator=self.draw)
            return super().forward(x)

    net = Busy()
    state = net.draw.get_state()
    adopt(net, [samples(), samples()])
    assert (net.calls, float(net.total), net.log, hasattr(net, "last")) == (0, 0.0, [], False)
    assert torch.equal(net.draw.get_state(), state)
    assert not net.deep["a"][0].any()
    assert not net.deep["a"][1]
    assert not net.row.any()
