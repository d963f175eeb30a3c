from __future__ import annotations

import dataclasses
import json

import pytest

from spikeproof.errors import Refusal
from spikeproof.evaluate import read_record, write_record
from spikeproof.report import read_runs
from spikeproof.report._read import alike, read_evaluation
from spikeproof.statistics import robust_accuracy
from tests.report import records


def test_a_record_says_here_what_it_says_to_those_who_wrote_it(tmp_path):
    folder = records.write(tmp_path / "run", records.evaluation(61))
    theirs = read_record(folder / "record.json")
    write_record(tmp_path / "again" / "record.json", theirs)
    (run,) = read_runs([tmp_path / "again"])
    (ours,) = run.evaluations
    assert (ours.clean, ours.robust) == (theirs.clean, theirs.robust)
    assert (ours.worst, ours.interval) == (theirs.robust_accuracy, theirs.interval)
    assert ours.accuracy == theirs.clean_accuracy
    for mine, step in zip(ours.steps, theirs.steps, strict=True):
        assert (mine.attacked, mine.success, mine.at) == (step.attacked, step.success, step.at)
        assert (mine.forwards, mine.most) == (sum(step.forwards), max(step.forwards))
        assert (mine.counts, mine.limit) == (step.counts, step.limit)
    only = ours.step("S3-pgd-10")
    assert only.summary["cumulative"] == robust_accuracy(
        theirs.clean, *(s.success for s in theirs.steps[:5])
    )


def test_runs_hold_training_evaluations_and_diagnoses(tmp_path):
    root = tmp_path / "runs"
    records.write(root / "a", {"kind": "training", "recipe": {"x": 1}})
    records.write(root / "a" / "evaluation", records.evaluation())
    records.write(root / "a" / "l2", records.evaluation(seed=1))
    records.write(root / "a" / "l2" / "shard-1-of-2", records.evaluation(seed=2))
    records.write(root / "a" / "diagnosis", records.diagnosis())
    records.write(root / "a" / "diagnosis" / "curves", records.evaluation(seed=3))
    records.write(root / "b", records.evaluation(seed=4))
    first, second = read_runs([root / "a", root / "b"])
    assert first.training["recipe"] == {"x": 1}
    assert [e.name for e in first.evaluations] == ["a · evaluation", "a · l2"]
    assert len(first.diagnoses) == 1
    assert [e.name for e in second.evaluations] == ["b"]


def test_names_are_as_long_as_it_takes(tmp_path):
    for side in ("x", "y"):
        records.write(tmp_path / side / "run", records.evaluation())
    runs = read_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert [run.name for run in runs] == ["x/run", "y/run"]
    with pytest.raises(Refusal, match="named twice"):
        read_runs([tmp_path / "x", tmp_path / "x"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 7}, "schema 7"),
        ({"clean": "AA=="}, "damaged"),
        ({"clean": "!"}, "damaged"),
        ({"steps": [{"id": "x"}]}, "damaged"),
        ({"finding": None}, "damaged"),
        ({"places": ""}, "damaged"),
        ({"reading": [1]}, "damaged"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, change, said):
    path = records.write(tmp_path, records.evaluation() | change) / "record.json"
    with pytest.raises(Refusal, match=said):
        read_runs([path])


def test_numbers_of_other_samples_are_damage(tmp_path):
    values = records.evaluation()
    values["steps"][0]["at"] = records.numbers([1])
    with pytest.raises(Refusal, match="1 values for"):
        read_evaluation(tmp_path / "r", values, "r")


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"kind": "peers"}))
    for path, said in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "holds no record.json"),
        (tmp_path / "other.json", "'peers'"),
    ):
        with pytest.raises(Refusal, match=said):
            read_runs([path])
    with pytest.raises(Refusal, match="no run was named"):
        read_runs([])


def test_only_the_same_samples_and_attacks_are_alike(tmp_path):
    def made(**values):
        return read_evaluation(tmp_path, records.evaluation(**values), "r")

    first = made()
    assert alike(first, made(seed=1)) == ""
    other = first.values | {"threat": records.LINF | {"eps": 1.0}}
    assert alike(first, dataclasses.replace(first, values=other)) == "other threat"
    assert alike(first, made(samples=30)) == "other samples"
    assert alike(first, made(more=2)) == "other attacks"
