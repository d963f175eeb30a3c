from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.seeding import all_isolated, derive, generator, isolated, untouched

NAME = st.one_of(st.integers(0, 99), st.text(max_size=5))


@given(st.integers(0, 2**40), st.lists(NAME, max_size=3))
def test_a_derived_seed_fits_torch_and_depends_on_nothing_else(seed, names):
    assert 0 <= derive(seed, *names) < 2**63
    assert derive(seed, *names) == derive(seed, *names)


def test_names_are_told_apart_by_type_and_order():
    seeds = {derive(0), derive(0, 1), derive(0, "1"), derive(0, 1, 2), derive(0, 2, 1), derive(1)}
    assert len(seeds) == 6


def test_generators_of_one_name_agree_and_of_two_differ():
    draw = lambda *names: torch.rand(8, generator=generator(3, *names))  # noqa: E731
    assert torch.equal(draw("a"), draw("a"))
    assert not torch.equal(draw("a"), draw("b"))


def test_isolation_seeds_the_block_and_gives_the_state_back():
    before = torch.get_rng_state()
    with isolated(5, "weights"):
        first = torch.nn.Linear(3, 3).weight.clone()

    def fail():
        with isolated(5, "weights"):
            assert torch.equal(torch.nn.Linear(3, 3).weight, first)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_code_of_others_draws_the_same_and_leaves_no_trace():
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    states = random.getstate(), torch.get_rng_state()
    with untouched(), all_isolated(5, "theirs"):
        first = drawn()
    random.random()
    with all_isolated(5, "theirs"):
        assert drawn() == first
    with all_isolated(6, "theirs"):
        assert not set(drawn()) & set(first)
    random.setstate(states[0])
    with pytest.raises(KeyError), all_isolated(5):
        raise KeyError
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_touched_generator_is_named():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    with pytest.raises(RuntimeError, match="torch"), untouched():
        torch.rand(1)
    with pytest.raises(RuntimeError, match="numpy"), untouched():
        np.random.rand(1)
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    with untouched():
        torch.rand(1, generator=generator(0))
