from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeproof.attacks import FGSM, PGD, Attack, Flips, Linf, RandomSearch, fingerprint
from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Conditions,
    diagnose,
    read_diagnosis,
    trail,
    vulnerability,
)
from spikeproof.models import CNN, MLP, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import ASSG, BPTT, CBA, Frames, Phase, Triangle

THREAT = Linf(0.1)
FEW = Conditions(limit=18)  # two chunks
QUICK = ("trail", "landscape", "domains")


def bare(diagnosis):
    """All but the clock."""
    return replace(diagnosis, times={})


@pytest.mark.slow
def test_real_handwriting_is_diagnosed_in_all_parts(net, handwriting, tmp_path):
    before = fingerprint(net)
    found = diagnose(
        net,
        handwriting,
        THREAT,
        rules=(None, ASSG()),
        out=tmp_path / "d",
        conditions=Conditions(limit=10),
    )
    assert fingerprint(net) == before
    assert found.notes == ()
    assert read_diagnosis(tmp_path / "d" / "record.json") == found
    assert not (tmp_path / "d" / "parts").exists()

    clean, attacked = found.seen
    assert sum(attacked.correct) < sum(clean.correct)
    assert clean.firing[0].neurons == 32
    assert all(0 < rate < 1 for rate in clean.firing[0].rate)
    assert [*clean.trails] == [*found.rules]
    x, y = handwriting.test.batch(torch.tensor(found.data.indices))
    assert clean.trails[found.rules[0]] == trail(net, x, y)
    assert attacked.trails[found.rules[1]] != clean.trails[found.rules[1]]

    ways = [(v.forward, v.rule, v.eps) for v in found.vulnerability]
    own, assg = found.rules
    assert ways == [
        (forward, rule, share * 0.1)
        for forward, rule in (("smooth", own), ("real", own), ("real", assg))
        for share in (1 / 64, 1 / 8, 1.0)
    ]
    ids = torch.tensor(found.data.indices)
    alone = vulnerability(net, x[3:4], y[3:4], 0.1, ids=ids[3:4])
    assert found.vulnerability[5].adv[3] == alone.adv[0]

    assert {point.over for point in found.curves} == {"steps", "budget", "width", "rule"}
    assert {check.id for check in found.checks} >= {"C1", "C11", "C12", "C30"}
    assert found.finding is not None
    assert {plane.kind for plane in found.planes} == {"random", "adversarial"}
    assert {one.sample for one in found.directions} == {*range(10)}
    assert sum(found.domains.clean) == sum(clean.correct)


@pytest.mark.slow
def test_nothing_depends_on_interruptions(net, handwriting, tmp_path):
    how = {"only": QUICK, "rules": (CBA(),)}
    whole = diagnose(net, handwriting, THREAT, conditions=FEW, **how)
    killed, out = [], tmp_path / "d"

    def kill(progress):
        killed.append(progress.step)
        if len(killed) in (2, 7):
            raise KeyboardInterrupt

    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            diagnose(
                net, handwriting, THREAT, conditions=replace(FEW, resume=resume), out=out,
                watch=kill, **how,
            )  # fmt: skip
        assert not (out / "record.json").exists()
    again = replace(FEW, resume=True, batch=7)
    found = diagnose(net, handwriting, THREAT, conditions=again, out=out, watch=kill, **how)
    assert bare(found) == bare(whole)
    assert len(killed) == 2 * 4 + 2 * 4 + 1 + 2  # every chunk once; planes: a sample each
    assert diagnose(net, handwriting, THREAT, conditions=again, out=out, **how) == found
    with pytest.raises(Refusal, match="already holds"):
        diagnose(net, handwriting, THREAT, conditions=FEW, out=out, **how)
    with pytest.raises(Refusal, match=r"threat\.eps was 0\.1"):
        diagnose(net, handwriting, Linf(0.2), conditions=again, out=out, **how)


class Foreign(nn.Module):
    """A convolutional network of another library, with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        with isolated(0):
            self.stem = nn.Conv2d(1, 4, 3, padding=1)
            self.inner = nn.Conv2d(4, 4, 3, padding=1)
            self.pool, self.last = nn.MaxPool2d(2), nn.Linear(64, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.inner(x).relu()
        return self.last(self.pool(x).flatten(1))


def test_a_foreign_network_gets_what_it_can(handwriting):
    found = diagnose(
        Foreign(), handwriting, THREAT, rules=(None, ASSG()), conditions=Conditions(limit=5)
    )
    first, *others = found.notes
    assert first.startswith("Foreign has no layer of spikeproof's neurons: firing rates")
    told = (
        "trail clean 1",
        "trail attacked 1",
        "vulnerability smooth",
        "vulnerability real 2",
        "directions 1",
    )
    assert all(any(note.startswith(name) for note in others) for name in told)
    assert found.domains is None
    assert found.seen[0].firing == ()
    (rule,) = found.seen[0].trails
    assert rule == "own gradient"
    kinds = [op.kind for op in found.trail().operations]
    assert kinds == ["input", "conv", "conv", "add", "max_pool", "linear", "output"]
    assert min(found.trail().operations[4].zeros) >= 0.75
    assert all(v.forward == "real" for v in found.vulnerability)
    assert len(found.directions) == 5 * 4
    assert len(found.planes) == 8
    assert found.checks


def test_event_frames_are_diagnosed_under_a_budget_of_events():
    frames = torch.randint(0, 3, (6, 4, 2, 8, 8), generator=generator(0, "frames")).float()
    data = Split(frames, torch.arange(6), 1.0)
    net = build(CNN((4,), 8, pool="max"), Setting(2, 8, T=4, encoder=Frames()), 1).eval()
    found = diagnose(net, data, Flips(8, binary=False), only=QUICK)
    assert any("no Linf budget" in note for note in found.notes)
    assert any(note.startswith("domains: event frames") for note in found.notes)
    assert len(found.notes) == 2
    assert found.seen[1].inputs == "attacked"
    assert found.trail()["layers.3"].kind == "max_pool"
    assert min(found.trail()["layers.3"].zeros) >= 0.75
    assert found.planes


def test_an_entrance_that_emits_spikes_is_noted(handwriting):
    net = build(MLP((8,)), Setting(channels=1, size=8, T=8, encoder=Phase()), 1).eval()
    found = diagnose(
        net, handwriting, THREAT, only=("domains", "vulnerability"), conditions=Conditions(limit=3)
    )
    (note,) = found.notes
    assert "the smooth forward pass keeps the steps of its entrance" in note
    assert not any(found.domains.legal)


def test_the_attack_is_an_argument(net, handwriting):
    weak, strong = (
        diagnose(
            net,
            handwriting,
            THREAT,
            attack=Attack(search),
            only=("trail",),
            conditions=Conditions(limit=6),
        )
        for search in (FGSM(), PGD(20))
    )
    assert weak.seen[0] == strong.seen[0]
    assert weak.seen[1] != strong.seen[1]
    assert weak.attack["search"]["kind"] == "fgsm"


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"only": ("trails",)}, "'trails' is no part of a diagnosis; did you mean 'trail'"),
        ({"rules": ()}, "the rules are none"),
        ({"rules": (BPTT(Triangle()), BPTT(Triangle(1.0)))}, "followed once"),
        ({"attack": Attack(RandomSearch(3))}, "does not climb under"),
        ({"conditions": Conditions(shard=(1, 2))}, "made by one process"),
        ({"conditions": Conditions(limit=10**6)}, "1000000 samples"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_at_once(net, handwriting, how, match):
    with pytest.raises(Refusal, match=match):
        diagnose(net, handwriting, THREAT, **how)


def test_samples_without_a_name_are_diagnosed_too(linear):
    x = torch.rand((9, 1, 2, 2), generator=generator(0, "x"))
    found = diagnose(linear, Split(x, x.flatten(1).argmax(1) % 2, 1.0), THREAT, only=("trail",))
    assert len(found.seen[0].correct) == 9
    json.dumps([op.name for op in found.trail().operations])
