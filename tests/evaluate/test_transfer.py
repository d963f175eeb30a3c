from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeproof.attacks import (
    L0,
    L2,
    PGD,
    Attack,
    Flips,
    Linf,
    RandomSearch,
    RelaxedLinf,
    Retiming,
    fingerprint,
)
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Adaptive,
    Conditions,
    Step,
    Suite,
    evaluate,
    named_suite,
    read_record,
    roles_of,
    with_transfer,
)
from spikeproof.models import MLP, Setting, analog_twin, build
from spikeproof.spiking import ASSG, Frames

THREAT = Linf(0.1)
OWN = Suite("own", (Step("pgd", Attack(PGD(5))), Step("first", Attack(PGD(2)), limit=10)))
IMAGES, EVENTS = Setting(channels=1, size=8, T=2), Setting(2, 8, 10, T=4, encoder=Frames())


class Masked(nn.Module):
    """Answers as another network does, with a gradient of zero."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.detach()) + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("threat", "setting", "search"),
    [
        (Linf(0.1), IMAGES, "apgd"),
        (L2(0.5), IMAGES, "apgd"),
        (L0(5), IMAGES, "sparse"),
        (Flips(20), EVENTS, "topk"),
        (Retiming(2), EVENTS, "retiming"),
        (RelaxedLinf(0.1, high=3.0), EVENTS, "apgd"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_each_source_lends_its_gradient_and_its_neurons_that_of_assg(threat, setting, search):
    sources = {
        "seed-1": build(MLP((8,)), setting, 1),
        "twin": build(MLP((8,)), analog_twin(setting), 1),
    }
    shape = (4, 2, 8, 8) if setting is EVENTS else (1, 8, 8)
    plain = named_suite("standard", threat, 10, shape)
    suite = with_transfer(plain, threat, sources, 10, draws=3)
    suite.check(threat)
    assert suite.name == plain.name
    more = [step for step in suite.steps if step not in plain.steps]
    assert [step.id for step in more] == [
        *("S10-transfer-seed-1", "S10-transfer-seed-1-assg", "S10-transfer-twin")
    ]
    assert [step.attack.rule for step in more] == [None, ASSG(), None]
    assert {(step.attack.search.kind, step.attack.draws) for step in more} == {(search, 3)}
    assert set(roles_of(suite).transfer) >= {step.id for step in more}
    places = [suite.steps.index(step) for step in more]
    assert places[-1] < next(i for i, step in enumerate(suite.steps) if step.limit)


def test_a_masked_gradient_is_found_by_another_network(linear, points, tmp_path):
    victim, other = Masked(linear), type(linear)()
    other.weight.data.mul_(0.5)
    other.train()
    out, transfer = tmp_path / "e", {"open": other}
    record = evaluate(victim, points, THREAT, OWN, out=out, transfer=transfer)
    own, step, first = record.steps
    assert (own.id, step.id, first.id) == ("pgd", "S10-transfer-open", "first")
    assert sum(own.success) < sum(step.success)
    assert step.source["name"] == "open"
    assert step.source["weights"] == fingerprint(other)
    assert own.source is first.source is None
    assert read_record(out / "record.json") == record
    assert other.training
    assert other.weight.requires_grad
    alone = evaluate(victim, points, THREAT, OWN)
    assert alone.robust_accuracy > record.robust_accuracy
    assert [s.success for s in alone.steps[:1]] == [own.success]


def test_a_run_is_resumed_with_the_same_source_and_refused_with_another(linear, points, tmp_path):
    other = type(linear)()
    whole = evaluate(Masked(linear), points, THREAT, OWN, out=tmp_path, transfer={"a": other})
    (tmp_path / "record.json").unlink()
    conditions, model = Conditions(batch=5, resume=True), Masked(linear)

    def again(transfer):
        return evaluate(
            model, points, THREAT, OWN, out=tmp_path, conditions=conditions, transfer=transfer
        )

    with pytest.raises(Refusal, match=r"suite\.steps"):
        again(None)
    with pytest.raises(Refusal, match="was 'S10-transfer-a'"):
        again({"b": other})
    other.weight.data[0, 0] = 0.75
    with pytest.raises(Refusal, match=r"suite.steps\[2\].source.weights was"):
        again({"a": other})
    record = again({"a": type(linear)()})
    assert replace(record, times=whole.times) == whole


class Shaped(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: x.flatten(1)[:, :3], " has 3 classes and the model has 2"),
        (lambda x: x.flatten(1) @ torch.ones(5, 2), r" cannot read samples of shape \(1, 2, 2\)"),
        (lambda x: x.flatten(1)[:, :2].softmax(1), ": Shaped returns probab"),
    ],
)
def test_a_source_or_control_of_other_inputs_or_classes_is_refused(linear, points, make, said):
    for role, more in (
        ("transfer source t", {"transfer": {"t": Shaped(make)}}),
        ("the undefended network", {"control": Shaped(make)}),
    ):
        with pytest.raises(Refusal, match=role + said) as refused:
            evaluate(linear, points, THREAT, OWN, **more)
        assert "\n" not in str(refused.value)


def test_a_source_that_is_changed_on_the_way_is_noticed(linear, points, tmp_path):
    other = type(linear)()

    def spoil(standing):
        other.weight.data.add_(1)

    suite = Suite("s", (Step("spoil", Attack(Adaptive(spoil))),))
    with pytest.raises(Refusal, match="transfer source other is not what it was"):
        evaluate(linear, points, THREAT, suite, out=tmp_path, transfer={"other": other})
    assert not (tmp_path / "record.json").exists()
    assert not list((tmp_path / "blocks").glob("002-*")), "of a network that is another"


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return x.flatten(1)[:, :2]


def test_a_network_that_counts_is_named_before_anything_is_attacked(linear, points, tmp_path):
    for role, said in (
        ({"transfer": {"t": Counting()}}, "transfer source t: Counting changes a weight or"),
        ({"control": Counting()}, "the undefended network: Counting changes a weight or a buffer"),
    ):
        with pytest.raises(Refusal, match=said):
            evaluate(linear, points, THREAT, OWN, out=tmp_path / "out", **role)
    with pytest.raises(Refusal, match=r"^Counting changes a weight or a buffer"):
        evaluate(Counting(), points, THREAT, OWN, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", " "])
def test_a_source_without_a_name_is_refused(linear, points, name):
    with pytest.raises(Refusal, match="has no name"):
        evaluate(linear, points, THREAT, OWN, transfer={name: type(linear)()})


def test_a_threat_without_a_search_by_gradients_is_refused():
    class Ours(Linf.__base__.__base__):
        kind = "ours"
        project = admits = size = random = lambda self, *_: None

    suite = Suite("s", (Step("noise", Attack(RandomSearch(2))),))
    with pytest.raises(Refusal, match="no transfer attack is made"):
        with_transfer(suite, Ours(), {"a": nn.Identity()}, 2)
