from __future__ import annotations

import numpy as np
import pytest

from spikeproof.report._inside import inside_sections
from tests.report import records


@pytest.fixture
def sections():
    return {s.id.removeprefix("k-"): s for s in inside_sections(records.diagnosis(), "k")}


def test_all_parts_of_a_diagnosis_have_their_section(sections):
    assert [*sections] == [
        "widths", "trail", "rasters", "vulnerability", "landscape", "places", "layers", "notes",
    ]  # fmt: skip


def test_parts_that_were_not_measured_are_left_out():
    assert [*inside_sections({}, "k")] == []
    assert [*inside_sections({"summary": {"seen": {}, "domains": None}}, "k")] == []


def test_the_trail_has_clean_and_attacked_rule_by_rule(sections):
    zeros, norms, other, _ = sections["trail"].blocks
    assert "own gradient" in zeros.title
    assert other.title == "Entries that are zero, by ASSG, ATan(1.0)"
    assert [s["name"] for s in norms.data["series"]] == ["clean", "attacked"]
    assert zeros.data["series"][0]["points"] == [
        ["input", 0.0], ["layers.10", 0.6], ["output", 0.1],
    ]  # fmt: skip
    assert len(zeros.table.rows) == 6


def test_layers_stand_in_the_order_of_the_network_clean_first(sections):
    (table,) = sections["layers"].blocks
    assert table.heads == ("Layer", "Neurons", "Steps", "Fires, clean", "Fires, attacked")
    assert [row[0].text for row in table.rows] == ["layers.2", "layers.10"]
    assert [cell.value for cell in table.rows[1]][1:] == [64, 4, 0.3, 0.3]


def test_the_margin_of_a_plane_is_positive_where_the_network_is_right(sections):
    figure = sections["landscape"].blocks[0]
    at = np.linspace(-0.2, 0.2, 5)
    assert figure.data["values"] == pytest.approx((0.5 - 10 * np.add.outer(at, at)).ravel())
    wrong = (np.add.outer(at, at) * 10 > 0.5).mean()
    assert figure.table.rows[0][1].value == pytest.approx(0.5)
    assert figure.table.rows[3][1].value == pytest.approx(wrong)


def test_vulnerability_stands_with_its_bounds(sections):
    (figure,) = sections["vulnerability"].blocks
    rows = [(row["group"], row["value"]) for row in figure.data["rows"]][:3]
    assert rows == [
        ("measured ratio", 9.0), ("predicted by the gradient", 80.0), ("upper bound", 192.0),
    ]  # fmt: skip
    assert figure.data["x"]["at"] == 3


def test_rules_keep_their_whole_name_where_a_short_one_is_not_enough():
    values = records.diagnosis()
    twin = "ASSG(surrogate=ATan(alpha=1.0), vanishing=0.9)"
    for row in values["summary"]["vulnerability"][:1]:
        row["rule"] = twin
    sections = {s.id: s for s in inside_sections(values, "k")}
    names = [row[0].text for row in sections["k-vulnerability"].blocks[0].table.rows]
    assert twin in names[0]
    assert values["rules"][1] in names[1]
