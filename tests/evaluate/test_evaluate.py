from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spikeproof.attacks import L2, PGD, SAPGD, Attack, Linf, RandomSearch
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Check,
    Conditions,
    Step,
    Suite,
    evaluate,
    read_record,
    summary,
    write_record,
)

THREAT = Linf(0.1)
SUITE = Suite(
    "s", (Step("random", Attack(RandomSearch(5)), everyone=True), Step("pgd", Attack(PGD(5))))
)


def bits(record):
    return replace(record, times={}, environment={}, artifacts={})


def test_smoke_in_seconds_on_a_spiking_network(net, handwriting, tmp_path):
    conditions = Conditions(limit=64)
    record = evaluate(net, handwriting, Linf(0.1), "smoke", out=tmp_path, conditions=conditions)
    assert record == read_record(tmp_path / "record.json")
    assert record.suite == "smoke-images"
    assert record.clean_accuracy > 0.85
    assert record.robust_accuracy < record.clean_accuracy - 0.2
    found = {step["id"]: step for step in summary(record)["steps"]}
    assert found["S1-random"]["robust_accuracy"] > found["S3-pgd-10"]["robust_accuracy"]
    assert found["S4-sapgd-assg-0.425"]["broke"] > 0, "found by a better gradient alone"
    assert {c.id: c.verdict for c in record.checks}["C29"] == "pass"
    assert record.data.training == 0


def stop_after(count):
    def watch(progress):
        nonlocal count
        count -= 1
        if not count:
            raise KeyboardInterrupt

    return watch


def test_a_stopped_run_goes_on_and_ends_alike_whatever_the_batch(linear, points, tmp_path):
    whole = evaluate(linear, points, THREAT, SUITE)
    for count in range(1, 12):
        out, batch = tmp_path / str(count), 10
        conditions = Conditions(batch=batch)
        with pytest.raises(KeyboardInterrupt):
            evaluate(
                linear,
                points,
                THREAT,
                SUITE,
                out=out,
                conditions=conditions,
                watch=stop_after(count),
            )
        assert not (out / "record.json").exists()
        told = []
        conditions = Conditions(batch=7, resume=True)
        record = evaluate(
            linear, points, THREAT, SUITE, out=out, conditions=conditions, watch=told.append
        )
        assert bits(record) == bits(whole)
        assert bits(read_record(out / "record.json")) == bits(whole)


def test_a_finished_run_resumed_is_the_record(linear, points, tmp_path):
    first = evaluate(linear, points, THREAT, SUITE, out=tmp_path)
    told = []
    again = evaluate(
        linear,
        points,
        THREAT,
        SUITE,
        out=tmp_path,
        conditions=Conditions(resume=True),
        watch=told.append,
    )
    assert again == first
    assert told == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("weights", "weights was"),
        ("data", "data.tensors was"),
        ("limit", "data.labels was|data.samples was"),
        ("threat", "threat.eps was 0.1"),
        ("suite", r"suite.steps\[2\].attack.search.steps was 5"),
        ("seed", "seed was 0"),
    ],
)
def test_a_record_of_something_else_is_not_resumed(linear, points, tmp_path, change, said):
    evaluate(linear, points, THREAT, SUITE, out=tmp_path)
    (tmp_path / "record.json").unlink()
    before = {path.name for path in (tmp_path / "blocks").iterdir()}
    threat, suite, conditions = THREAT, SUITE, Conditions(resume=True)
    match change:
        case "weights":
            linear.weight.data.mul_(2)
        case "data":
            points = points.take(torch.tensor([1, *range(1, 41)]))
        case "limit":
            conditions = replace(conditions, limit=20)
        case "threat":
            threat = Linf(0.2)
        case "suite":
            suite = Suite("s", (SUITE.steps[0], Step("pgd", Attack(PGD(6)))))
        case "seed":
            conditions = replace(conditions, seed=1)
    with pytest.raises(Refusal, match=said):
        evaluate(linear, points, threat, suite, out=tmp_path, conditions=conditions)
    assert {path.name for path in (tmp_path / "blocks").iterdir()} == before


def test_nothing_is_overwritten(linear, points, tmp_path):
    evaluate(linear, points, THREAT, SUITE, out=tmp_path)
    with pytest.raises(Refusal, match="already holds an evaluation"):
        evaluate(linear, points, THREAT, SUITE, out=tmp_path)


def test_the_last_shard_writes_the_record_of_all(linear, points, tmp_path):
    whole = evaluate(linear, points, THREAT, SUITE)
    for part in (3, 1, 2):
        assert not (tmp_path / "record.json").exists()
        conditions = Conditions(batch=part, shard=(part, 3))
        evaluate(linear, points, THREAT, SUITE, out=tmp_path, conditions=conditions)
    assert bits(read_record(tmp_path / "record.json")) == bits(whole)


def test_checks_of_others_are_asked_and_the_worst_of_an_id_stands(linear, points):
    seen = []

    def doubt(evidence):
        seen.append(evidence)
        yield Check("C7", "zero gradient", 0.05, 0.01, "flag", "5 %")
        yield Check("C5", "re-check", 3, 0, "fail", "three")

    record = evaluate(linear, points, THREAT, SUITE, checks=[doubt])
    found = {check.id: check for check in record.checks}
    assert (found["C7"].verdict, found["C5"].detail, found["C4"].verdict) == (
        "flag",
        "three",
        "pass",
    )
    assert record.finding.status == "unreliable"
    (evidence,) = seen
    assert evidence.classes == 2
    assert evidence.record.robust == record.robust
    assert evidence.job.model is linear


def test_data_that_changes_under_the_evaluation_is_found(linear, points):
    from spikeproof.data import Split

    moving = Split(points.x.clone(), points.y, 1.0)

    def tamper(model, x, y, threat):
        moving.x[5] = 1 - moving.x[5]
        return x

    record = evaluate(linear, moving, THREAT, Suite("s", (Step("tamper", tamper),)))
    assert record.finding.status == "unreliable"
    assert any("changed while" in reason for reason in record.finding.reasons)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Conditions(batch=0), "the batch is 0"),
        (lambda: Conditions(shard=(0, 2)), "the shard is 0/2"),
        (lambda: Conditions(shard=(3, 2)), "the shard is 3/2"),
        (lambda: Linf(8), "did you mean 8/255"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(make, said):
    with pytest.raises(Refusal, match=said):
        make()


def test_a_shard_of_nothing_is_refused(linear, points):
    with pytest.raises(Refusal, match="shard 42/50 of 41 samples is empty"):
        evaluate(linear, points, THREAT, SUITE, conditions=Conditions(shard=(42, 50)))


def test_a_suite_that_does_not_fit_is_refused_before_a_folder_is_made(linear, points, tmp_path):
    suite = Suite("s", (Step("a", Attack(SAPGD())),))
    with pytest.raises(Refusal, match="does not fit"):
        evaluate(linear, points, L2(0.5), suite, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_record_says_where_it_comes_from(linear, points, tmp_path):
    record = evaluate(linear, points, THREAT, SUITE, conditions=Conditions(batch=9))
    assert record.model["name"] == "Linear"
    assert record.model["parameters"] == 8
    assert len(record.model["weights_sha256"]) == 64
    assert record.environment["packages"]["torch"] == torch.__version__
    assert record.environment["device"] == "cpu"
    assert record.times["seconds_of_steps"].keys() == {"random", "pgd"}
    assert record.times["batch"] == 9
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record
