from __future__ import annotations

import datetime

import pytest

from spikeproof.catalogue import Recipe, from_values, to_values
from spikeproof.errors import Refusal
from spikeproof.models import CNN
from spikeproof.spiking import ASSG, HART, IF, LIF, Gaussian, Sigmoid
from spikeproof.training import Plan, Steps

GOOD = {
    "model": {"kind": "cnn", "channels": [4, 8]},
    "train": {"epochs": 1, "batch": 2, "optimizer": {"kind": "sgd", "lr": 1}},
}


def with_(path, value):
    values = {key: dict(section) for key, section in GOOD.items()}
    *sections, last = path.split(".")
    inner = values
    for key in sections:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return values


def test_plain_values_become_objects():
    recipe = from_values(Recipe, GOOD, "test")
    assert recipe.model == CNN((4, 8))
    assert recipe.train.optimizer.lr == 1
    assert recipe.network.neuron == IF()


@pytest.mark.parametrize(
    "thing",
    [
        LIF(0.25, rule=HART(Sigmoid(3.0)), reset="soft", learn_theta=True),
        IF(rule=ASSG(Gaussian(), vanishing=0.5)),
        Plan(3, 4, from_values(Recipe, GOOD, "test").train.optimizer, Steps((1.0, 2.5))),
    ],
)
def test_nested_objects_survive_the_round_trip(thing):
    assert from_values(type(thing), to_values(thing), "test") == thing


NEURON = {"kind": "lif", "rule": {"kind": "bptt", "surrogate": {"kind": "atan"}}}


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("trian", {}, "did you mean 'train'"),
        ("train.epoch", 1, "train.epoch is not known; did you mean 'epochs'"),
        ("train.epochs", "three", "train.epochs is 'three'; it must be a valid integer"),
        ("train.epochs", 2.5, "valid integer"),
        ("train.epochs", True, "valid integer"),
        ("train.epochs", 0, "epochs is 0"),
        ("train.precision", "float8", "train.precision is 'float8'"),
        ("train.optimizer", {"lr": 1}, "train.optimizer has no kind; choose one of: adam"),
        ("train.optimizer", {"kind": "adaam", "lr": 1}, "did you mean 'adam'"),
        ("train.optimizer", {"kind": "adam", "lr": 1, "momentum": 0.9}, "momentum is not known"),
        ("train.optimizer", {"kind": "sgd"}, "train.optimizer.lr is missing"),
        ("train.optimizer", 3, "train.optimizer"),
        ("model", {"kind": "vgg12"}, "did you mean 'vgg1"),
        ("model", {"kind": "sew_resnet", "depth": 19}, "18, 34 and 50"),
        ("model.channels", [1.5], "model.channels.0 is 1.5"),
        ("model.channels", "many", "model.channels is 'many'"),
        ("network.T", 0, "network.T is 0"),
        ("network.neuron", NEURON | {"tau": 2.0}, "tau is 2.0"),
        ("network.neuron", NEURON | {"rule": {"kind": "bttp"}}, "did you mean 'bptt'"),
        ("network.encoder", {"kind": "phase", "bits": 40}, "bits is 40"),
        ("data.validation", 2.0, "data.validation is 2.0"),
        ("data.path", "somewhere", "need both"),
        ("train.optimizer", {"kind": "adam", "lr": 1, "betas": [0.9]}, r"betas is \[0.9\], which"),
        ("train.optimizer", {"kind": "adam", "lr": 1, "betas": [0.9] * 3}, "is too long; leave"),
        ("train", {"a": 1} | {"epochs": datetime.date(1979, 5, 27)}, "train.epochs is {'date'"),
        ("data.name", ["x" * 10_000], "data.name is"),
        ("data." + "x" * 10_000, 1, "is not known"),
    ],
)
def test_every_mistake_costs_one_sentence(path, value, sentence):
    with pytest.raises(Refusal, match=sentence) as caught:
        from_values(Recipe, with_(path, value), "the recipe")
    assert str(caught.value).startswith("the recipe: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_integer_too_long_to_write_is_refused():
    with pytest.raises(Refusal, match="beyond JSON"):
        from_values(Recipe, with_("train.epochs", 10**5000), "the recipe")


def test_what_is_nested_too_deeply_is_refused():
    for depth in (300, 100_000):
        value: list = []
        for _ in range(depth):
            value = [value]
        with pytest.raises(Refusal, match="few levels"):
            from_values(Recipe, with_("data.name", value), "the recipe")


def test_values_that_json_lacks_are_refused():
    with pytest.raises(Refusal, match=r"data.name is \{'set'"):
        from_values(Recipe, with_("data.name", {1, 2}), "the recipe")
