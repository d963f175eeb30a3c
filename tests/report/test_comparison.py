from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.evaluate import compare, read_record
from spikeproof.report._comparison import (
    comparison_sections,
    cost,
    frontier,
    leading,
    pairs,
    summary_sentence,
    table,
    tradeoff,
)
from spikeproof.report._read import Run, read_evaluation, read_runs
from tests.report import records

SHARES = st.integers(0, 4).map(lambda n: n / 4)


def made(tmp_path, count, **values):
    folders = [
        records.write(tmp_path / f"run-{n}", records.evaluation(90, seed=n, strength=0.1 + n / 9))
        for n in range(count)
    ]
    return folders, [run.evaluations[0] for run in read_runs(folders)]


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=8))
def test_nobody_is_better_than_the_frontier_and_somebody_than_the_rest(points):
    front = frontier(points)
    for point, leads in zip(points, front, strict=True):
        better = [p for p in points if p != point and p[0] >= point[0] and p[1] >= point[1]]
        assert leads == (not better)
    assert any(front)


def test_an_unreliable_run_makes_no_frontier(tmp_path):
    good = records.evaluation(90, strength=0.6)
    bad = records.evaluation(90, strength=0.0, status="unreliable")
    found = [read_evaluation(tmp_path, values, "r") for values in (bad, good)]
    assert found[0].worst > found[1].worst
    assert leading(found) == (False, True)
    assert [point["front"] for point in tradeoff(found, [{}, {}]).data["points"]] == [False, True]
    assert "1 unreliable, 1 flagged" in summary_sentence(found)


def test_paired_tests_are_those_of_evaluate(tmp_path):
    folders, found = made(tmp_path, 3)
    theirs = compare({f.name: read_record(f / "record.json") for f in folders})
    table = pairs(found)
    for row, pair in zip(table.rows, theirs, strict=True):
        assert [cell.text for cell in row[:2]] == [pair.first, pair.second]
        assert [cell.value for cell in row[2:6]] == [
            pair.only_first, pair.only_second, pair.p, pair.p_holm,
        ]  # fmt: skip
        better = pair.first if pair.only_first > pair.only_second else pair.second
        assert row[6].text == (better if pair.p_holm < 0.05 else "\u2013")


def test_of_many_each_is_tested_against_the_best(tmp_path):
    _, found = made(tmp_path, 12)
    best = max(found, key=lambda e: e.worst)
    rows = pairs(found).rows
    assert {row[0].text for row in rows} == {best.name}
    assert len(rows) == 11


def test_what_cannot_be_compared_says_why(tmp_path):
    found = [
        read_evaluation(tmp_path, records.evaluation(samples), f"r{samples}")
        for samples in (40, 50)
    ]
    (row,) = pairs(found).rows
    assert row[6].text == "not comparable: other samples"
    assert row[4].value is None


def test_sections_say_it_in_figures_and_tables(tmp_path):
    folders, found = made(tmp_path, 4)
    sections = comparison_sections(
        list(zip(read_runs(folders), found, strict=True)), [f"run-{n}" for n in range(4)]
    )
    assert [section.id for section in sections] == ["overview", "pairs", "multiples-section"]
    listed = sections[0].blocks[1]
    assert [row[0].link for row in listed.rows] == [f"run-{n}" for n in range(4)]
    column = listed.heads.index("Worst case")
    assert [row[column].value for row in listed.rows] == pytest.approx([e.worst for e in found])
    assert "data made-up" in listed.caption
    assert "Data" not in listed.heads
    panels = sections[2].blocks[0].data["panels"]
    assert [panel["name"] for panel in panels] == [e.name for e in found]
    for panel in panels:
        assert np.all(np.diff([point[0] for point in panel["points"]]) > 0)


def test_a_dot_is_as_large_as_what_all_records_tell_of_cost(tmp_path):
    _, found = made(tmp_path, 2)
    packed, energy = {"bytes": 900}, {"picojoules": {"analog": 1e6, "updates": 2e6}}
    runs = [Run("a", tmp_path, packed=packed, energy=energy), Run("b", tmp_path, energy=energy)]
    costs = [cost(one, e) for one, e in zip(runs, found, strict=True)]
    figure = tradeoff(found, costs)
    assert [point["size"] for point in figure.data["points"]] == [3.0, 3.0]
    assert "energy" in figure.caption
    both = [costs[0], costs[1] | {"Bytes": 450.0}]
    assert [point["size"] for point in tradeoff(found, both).data["points"]] == [900.0, 450.0]
    none = tradeoff(found, [{}, {}])
    assert [point["size"] for point in none.data["points"]] == [0, 0]
    assert "area" not in none.caption
    listed = table(found, ["a", "b"], costs)
    column = listed.heads.index("Bytes")
    assert [row[column].text for row in listed.rows] == ["900", "\u2013"]
