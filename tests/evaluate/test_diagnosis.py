from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Check,
    Diagnosis,
    Directional,
    Domains,
    Finding,
    Firing,
    Manifest,
    Plane,
    Point,
    Seen,
    Trail,
    Vulnerability,
    overview,
    read_diagnosis,
    trail,
    write_diagnosis,
)
from spikeproof.seeding import generator, isolated


@pytest.fixture(scope="module")
def made() -> Diagnosis:
    with isolated(0):
        net = torch.nn.Linear(3, 2)
    x, y = torch.rand((9, 3), generator=generator(0, "x")), torch.arange(9) % 2
    found = trail(net, x, y)
    bits, shares = (True,) * 6 + (False,) * 3, tuple(i / 9 for i in range(9))
    return Diagnosis(
        model={"name": "Linear"},
        data=Manifest("nine", tuple(range(9)), tuple(y.tolist()), (3,), "a", "b"),
        threat={"kind": "linf", "eps": 0.1},
        attack={"search": {"kind": "pgd"}},
        rules=("own gradient",),
        seed=0,
        seen=(Seen("clean", bits, (Firing("layer", 4, 7, shares),), {"own gradient": found}),),
        vulnerability=(
            Vulnerability(
                "real", "own gradient", "probability", 0.1, 8,
                (3,) * 9, (3.0,) * 9, (2.0,) * 9, (*shares[:8], 0.0), (0.0,) * 9,
                (*(10 * share for share in shares[:8]), 1.0),
            ),
        ),
        curves=(Point("steps", 10.0, "", bits), Point("width", 1.0, "", bits, "no neurons")),
        checks=(Check("C1", "determinism", None, 0.1, "pass"),),
        finding=Finding("flagged", ("C1",)),
        directions=(
            Directional(0, "own gradient", 0.1, (1.0, -1.0), (1.0, 1.0)),
            Directional(1, "own gradient", 0.1, (1.0,), (0.0,)),
        ),
        planes=(Plane(0, "random", (-1.0, 0.0, 1.0), shares, shares),),
        domains=Domains("Direct()", 0.1, (3, 12), bits, bits, (False,) * 9, (False,) * 9, shares),
        notes=("a note",),
        environment={"device": "cpu"},
        times={},
    )  # fmt: skip


def test_a_diagnosis_comes_back_as_it_was(made, tmp_path):
    write_diagnosis(tmp_path / "d.json", made)
    assert read_diagnosis(tmp_path / "d.json") == made
    bare = replace(made, seen=(), domains=None, finding=None, planes=(), directions=())
    write_diagnosis(tmp_path / "d.json", bare)
    assert read_diagnosis(tmp_path / "d.json") == bare


def test_the_summary_is_in_plain_numbers(made, tmp_path):
    write_diagnosis(tmp_path / "d.json", made)
    told = json.loads((tmp_path / "d.json").read_text())["summary"]
    assert told == json.loads(json.dumps(overview(made)))
    assert told["samples"] == 9
    seen = told["seen"]["clean"]
    assert seen["accuracy"] == pytest.approx(2 / 3)
    assert seen["rate"]["layer"] == pytest.approx(4 / 9)
    assert [op["name"] for op in seen["trails"]["own gradient"]] == ["input", "", "output"]
    (v,) = told["vulnerability"]
    assert v["ratio"] == pytest.approx(10)  # of eight; the last one is infinite, the first none
    assert v["linear"] == pytest.approx(3 * 9 / 4)
    assert v["upper"] == 9
    assert v["above"] == pytest.approx(8 / 9)
    assert v["undefined"] == pytest.approx(2 / 9)
    assert [p["over"] for p in told["curves"]] == ["steps"]  # what was skipped is no point
    assert told["slopes"] == [{"rule": "own gradient", "step": 0.1, "agreement": 0.5}]
    assert told["domains"]["sensor"] == 0.0
    assert told["domains"]["spikes"] == pytest.approx(2 / 3)


def test_a_trail_is_found_by_inputs_and_rule(made):
    assert isinstance(made.trail(), Trail)
    assert made.trail("clean", "own gradient") == made.trail()
    with pytest.raises(Refusal, match="no trail of attacked inputs by any rule"):
        made.trail("attacked")
    with pytest.raises(Refusal, match="by assg; this diagnosis has own gradient"):
        made.trail("clean", "assg")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": 9}, "schema 9"),
        ({"kind": "evaluation"}, "kind 'evaluation'"),
        ({"seen": 7}, "damaged"),
        ({"curves": [{"over": "noise"}]}, "damaged"),
    ],
)
def test_other_files_are_refused(made, tmp_path, change, match):
    path = tmp_path / "d.json"
    write_diagnosis(path, made)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Refusal, match=match):
        read_diagnosis(path)
