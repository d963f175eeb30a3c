"""Contracts over the catalogue: whatever has a name passes the contract of its kind."""

from __future__ import annotations

import dataclasses

import pytest

from spikeproof import models, spiking
from spikeproof.catalogue import KINDS, from_values, to_values

NEEDED = {"lr": 0.1, "milestones": (1.0,), "eps": 1.0, "high": 2.0, "k": 3, "budget": 2}
MEMBERS = [member for members in KINDS.values() for member in members]


def made(member):
    fields = {f.name for f in dataclasses.fields(member)}
    return member(**{name: value for name, value in NEEDED.items() if name in fields})


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.__name__)
def test_everything_named_is_a_frozen_value_that_survives_the_round_trip(member):
    thing = made(member)
    assert member.__dataclass_params__.frozen
    assert thing.kind == member.__dataclass_fields__["kind"].default
    assert from_values(member, to_values(thing), "test") == thing
    assert hash(thing) == hash(made(member))


def test_kinds_are_told_apart_by_name():
    for members in KINDS.values():
        names = [made(member).kind for member in members]
        assert len(names) == len(set(names))


def test_nothing_of_a_kind_is_left_out():
    for kind in (spiking.Surrogate, spiking.Rule, spiking.Encoder, models.Architecture):
        room = kind.__module__.rpartition(".")[0]  # what others bring along has no name in a recipe
        here = [c for c in kind.__subclasses__() if c.__module__.startswith(f"{room}.")]
        public = {c for c in here if not c.__name__.startswith("_")}
        assert set(KINDS[kind]) == public
    assert set(KINDS[spiking.LIF]) == {spiking.LIF, *spiking.LIF.__subclasses__()}
