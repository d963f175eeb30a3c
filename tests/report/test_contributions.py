from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from spikeproof.report._contributions import contribution_section, masking_section
from spikeproof.report._read import read_evaluation
from tests.report import records


@pytest.fixture
def values():
    return records.evaluation(120, more=5)


@pytest.fixture
def found(tmp_path, values):
    return read_evaluation(tmp_path, values, "net")


def block(section, name):
    return next(b for b in section.blocks if b.block == "figure" and b.id.endswith(name))


def test_the_descent_goes_from_clean_to_the_worst_case(found):
    figure = block(contribution_section(found, "k"), "descent")
    rows = figure.data["rows"]
    assert rows[0]["from"] == found.accuracy
    assert rows[-1]["to"] == pytest.approx(found.worst)
    assert all(a["to"] == b["from"] for a, b in pairwise(rows))
    fell = sum(row[1].value for row in figure.table.rows)
    assert fell == sum(found.clean) - sum(found.robust)


def test_the_matrix_counts_what_two_attacks_both_break(found, values):
    figure = block(contribution_section(found, "k"), "matrix")
    success = {
        s["id"]: np.array(records.unpacked(s["success"], 120)) for s in values["steps"]
    }  # fmt: skip
    assert set(figure.data["names"]) <= set(records.EVERYONE)
    for cell in figure.data["cells"]:
        both = success[cell["row"]] & success[cell["column"]]
        either = success[cell["row"]] | success[cell["column"]]
        assert cell["text"] == str(both.sum())
        assert cell["share"] == pytest.approx(both.sum() / either.sum())


def test_all_steps_are_in_the_table_and_those_not_run_say_why(tmp_path, values):
    values["steps"][3]["skipped"] = "the model has no spikes"
    values["steps"][4]["crashed"] = records.bits([True] + [False] * 119)
    values["steps"][4]["message"] = "boom"
    found = read_evaluation(tmp_path, values, "net")
    table = contribution_section(found, "k").blocks[-1]
    assert [row[0].text for row in table.rows] == [step.id for step in found.steps]
    assert table.rows[3][-1].text == "not run: the model has no spikes"
    assert table.rows[4][-1].text == "crashed on 1: boom"
    assert table.rows[-1][-1].text == "measures a curve"


def test_gradients_are_compared_on_what_they_met(found):
    section = masking_section(found, "k")
    figure = block(section, "rules-1")
    assert figure.title == "FGSM with the loss cross entropy, by gradient"
    names = [row["name"] for row in figure.data["rows"]]
    assert names == ["own gradient", "bptt, atan(4)", "bptr"]
    for row, id in zip(figure.data["rows"], found.roles["single"], strict=True):
        step = found.step(id)
        assert row["value"] == step.broke / sum(found.clean)
        assert row["low"] <= row["value"] <= row["high"]


def test_gradients_that_broke_nothing_more_are_said_in_a_sentence(tmp_path):
    values = records.evaluation(20, more=5)
    for step in values["steps"]:
        if step["id"].startswith("S5"):
            step["success"] = records.bits([False] * 20)
    note = masking_section(read_evaluation(tmp_path, values, "net"), "k").blocks[-1]
    assert "APGD with the loss cross entropy through 5 gradients" in note.text


def test_one_gradient_makes_no_comparison(tmp_path):
    values = records.evaluation()
    values["steps"] = [s for s in values["steps"] if not s["id"].startswith("S2")]
    assert masking_section(read_evaluation(tmp_path, values, "net"), "k") is None
