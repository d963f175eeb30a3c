from __future__ import annotations

import pytest

from spikeproof.report._curves import (
    accuracy_section,
    budget_curve,
    budget_figure,
    claim,
    left_by,
    noise,
    query_figure,
)
from spikeproof.report._read import read_evaluation
from spikeproof.statistics import wilson
from tests.report import records


@pytest.fixture
def found(tmp_path):
    return read_evaluation(tmp_path, records.evaluation(80), "net")


def test_the_curve_over_budgets_counts_those_right_that_stand(found):
    curve = budget_curve(found)
    assert [point[0] for point in curve] == [0.0, *records.EPSILONS]
    assert curve[0][1] == found.accuracy
    for size, share, low, high, among in curve[1:]:
        step = found.step(f"S13-eps-{size}")
        left = sum(c and not s for c, s in zip(found.clean, step.success, strict=True))
        assert (share, among) == (left / 80, 80)
        assert (low, high) == wilson(left, 80)


def test_a_curve_of_the_first_samples_is_over_these(tmp_path):
    values = records.evaluation(80)
    for step in values["steps"]:
        if step["threat"]:
            first = [i < 16 and hit for i, hit in enumerate(records.unpacked(step["attacked"], 80))]
            fell = records.unpacked(step["success"], 80)
            both = [a and b for a, b in zip(first, fell, strict=True)]
            values_of = {"threat": step["threat"], "limit": 16}
            made = records.step(step["id"], step["attack"], first, both, **values_of)
            step.update(made)
    found = read_evaluation(tmp_path, values, "net")
    curve = budget_curve(found)
    assert {point[4] for point in curve} == {16}
    assert curve[0][1] == sum(found.clean[:16]) / 16


def test_without_roles_the_steps_of_the_same_kind_make_the_curve(tmp_path):
    values = records.evaluation(80)
    known = budget_curve(read_evaluation(tmp_path, values, "net"))
    assert budget_curve(read_evaluation(tmp_path, values | {"reading": {}}, "net")) == known


def test_claim_and_noise_are_those_that_met_everyone(found):
    assert (claim(found).id, noise(found).id) == ("S3-pgd-10", "S1-random")
    assert left_by(found, claim(found)) > found.worst
    marks = {mark["tone"]: mark for mark in budget_figure(found, "k").data["marks"]}
    assert marks["worst"]["y"] == found.worst
    assert marks["noise"]["y"] == left_by(found, noise(found))
    assert all(mark["low"] <= mark["y"] <= mark["high"] for mark in marks.values())


def test_curves_over_queries_end_where_the_attack_does(found):
    figure = query_figure(found, "k")
    after = {row[0].text: row[3].value for row in figure.table.rows}
    for series in figure.data["series"]:
        assert series["points"][-1][1] == pytest.approx(after[series["name"]])
        queries = [point[0] for point in series["points"]]
        assert queries == sorted(queries)
    primary = found.step("S4-sapgd-assg")
    assert after["S4-sapgd-assg"] == pytest.approx(primary.summary["cumulative"])


def test_a_suite_without_a_curve_says_so(tmp_path):
    values = records.evaluation()
    values["steps"] = [s for s in values["steps"] if not s["threat"]]
    section = accuracy_section(read_evaluation(tmp_path, values, "net"), "k")
    assert [block.block for block in section.blocks] == ["note", "figure"]
