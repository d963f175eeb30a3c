from __future__ import annotations

import pytest

from spikeproof.report._read import read_evaluation
from spikeproof.report._verdict import doubts_section, headline, verdict
from tests.report import records


def made(tmp_path, **values):
    return read_evaluation(tmp_path, records.evaluation(100, **values), "net")


def plain(text):
    return text.replace("\u00a0", " ")


def test_the_sentence_has_claim_worst_case_interval_and_doubts(tmp_path):
    values = records.evaluation(100)
    found = read_evaluation(tmp_path, values, "net")
    worst, (low, high) = records.standing(values)
    said = plain(verdict(found))
    assert f"net keeps {100 * worst:.1f} %" in said
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f} %" in said
    assert "100 samples within L∞ ≤ 0.1" in said
    assert "PGD-10 through its own gradient would claim" in said
    assert said.endswith(": flagged, with 1 doubt.")


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        ("no evidence of masking", "no check found evidence of masking."),
        ("unreliable", "unreliable, with 1 doubt."),
    ],
)
def test_a_sentence_never_says_robust(tmp_path, status, ending):
    said = verdict(made(tmp_path, status=status))
    assert said.endswith(ending)
    assert "robust" not in said


def test_the_claim_of_its_authors_stands_for_the_usual_attack(tmp_path):
    found = made(tmp_path)
    assert "where 45.0 % were claimed" in plain(verdict(found, 0.45))
    assert [fact.name for fact in headline(found, 0.45).facts][:2] == ["Clean", "Claimed"]
    assert [fact.name for fact in headline(found).facts] == [
        "Clean", "Usual attack", "Random noise", "Worst case", "Finding",
    ]  # fmt: skip


def test_doubts_come_with_their_evidence_failures_first(tmp_path):
    values = records.evaluation(100, status="unreliable")
    values["checks"].insert(0, {"id": "C9", "name": "flag", "value": None, "threshold": None,
                                "verdict": "flag", "detail": "odd"})  # fmt: skip
    values["steps"][0] |= {"crashed": records.bits([True] * 2 + [False] * 98), "message": "boom"}
    cards, table = doubts_section(read_evaluation(tmp_path, values, "net"), "k").blocks
    assert [card.title for card in cards.cards] == ["C11 · converged", "C9 · flag", "S1-random"]
    assert cards.cards[0].text == "still falls (value 0.07 · threshold 0.01)"
    assert (cards.cards[2].text, cards.cards[2].label) == ("boom", "crashed on 2")
    assert "4 checks: 1 passed, 1 flagged, 1 failed, 1 not made" in table.folded


def test_no_doubt_is_no_proof(tmp_path):
    note, _ = doubts_section(made(tmp_path, status="no evidence of masking"), "k").blocks
    assert "no proof of robustness" in note.text


def test_odd_checks_do_not_break_the_page(tmp_path):
    values = records.evaluation(100)
    values["checks"] = [{"verdict": "<b>", "value": "nan", "threshold": None}]
    table = doubts_section(read_evaluation(tmp_path, values, "net"), "k").blocks[-1]
    assert table.rows[0][2].text == "not made"
