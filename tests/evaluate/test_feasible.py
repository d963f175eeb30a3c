"""Event feasibility against the threats' own word, and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.attacks import Flips, Linf, Retiming
from spikeproof.errors import Refusal
from spikeproof.evaluate._feasible import feasible


def line(*values):
    """One sample of one pixel."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1, 1)


@pytest.mark.parametrize(
    ("after", "threat", "good"),
    [
        ((1, 0, 1, 0), Flips(1, binary=True), True),
        ((1, 1, 1, 0), Flips(1, binary=True), False),
        ((2, 0, 0, 0), Flips(1, binary=True), False),
        ((2, 0, 0, 0), Flips(1, binary=False), True),
        ((3, 0, 0, 0), Flips(1, binary=False), False),
        ((0.5, 0, 0, 0), Flips(1, binary=False), False),
        ((-1, 0, 0, 0), Flips(2, binary=False), False),
        ((float("nan"), 0, 0, 0), Flips(2, binary=False), False),
        ((float("inf"), 0, 0, 0), Flips(2, binary=False), False),
        ((0, 0, 1, 0), Retiming(2, "binf"), True),
        ((0, 0, 1, 0), Retiming(1, "binf"), False),
        ((0, 0, 1, 0), Retiming(2, "b1"), True),
        ((0, 0, 1, 0), Retiming(1, "b1"), False),
        ((0, 0, 1, 0), Retiming(1, "b0"), True),
        ((0, 0, 1, 0), Retiming(0, "b0"), False),
        ((0, 0, 2, 0), Retiming(3, "binf"), False),
        ((1, 0, 1, 0), Retiming(3, "binf"), False),
        ((0, 0, 0, 0), Retiming(3, "binf"), False),
    ],
)
def test_by_hand(after, threat, good):
    check = feasible(line(*after), line(1, 0, 0, 0), threat)
    assert check.verdict == ("pass" if good else "fail")
    assert check.value == (0 if good else 1)


@given(
    before=st.lists(st.integers(0, 2), min_size=10, max_size=10),
    after=st.lists(st.integers(0, 2), min_size=10, max_size=10),
    order=st.permutations(range(10)),
    budget=st.integers(0, 12),
    limits=st.sampled_from(["binf", "b1", "b0", "count"]),
)
def test_as_the_threats_say(before, after, order, budget, limits):
    x = torch.tensor(before).float().reshape(1, 5, 1, 1, 2)
    threat = Flips(budget, binary=False) if limits == "count" else Retiming(budget, limits)
    shuffled = x.flatten()[list(order)].reshape(x.shape)
    for x_adv in (torch.tensor(after).float().reshape(x.shape), shuffled, x.flip(1)):
        good = bool(threat.admits(x_adv, x))
        assert (feasible(x_adv, x, threat).verdict == "pass") is good


def test_other_threats_and_other_shapes():
    x = line(1, 0)
    assert feasible(x, x, Linf(0.1)).verdict == "na"
    with pytest.raises(Refusal, match="each belongs to one input"):
        feasible(x, torch.cat([x, x]), Flips(1, binary=True))
