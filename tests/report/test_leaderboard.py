from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikeproof.errors import Refusal
from spikeproof.report import leaderboard
from tests.report import records

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
FIELDS = {  # of a file in RobustBench's model_info
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue",
    "architecture", "eps", "clean_acc", "reported", "autoattack_acc", "footnote", "unreliable",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "records"
    made = {"a": (0.5, "flagged"), "b": (0.2, "no evidence of masking"), "c": (0.0, "unreliable")}
    for name, (strength, status) in made.items():
        values = records.evaluation(90, strength=strength, status=status)
        records.write(root / name / "evaluation", values)
    records.write(root / "weak", records.evaluation(90, strength=0.0, suite="smoke-images"))
    records.write(root / "d" / "shard-1-of-2", records.evaluation(90, strength=0.0))
    (root / "other.json").write_text(json.dumps({"kind": "training"}))
    return root


def test_the_best_come_first_and_unreliable_ones_have_no_rank(folder, tmp_path):
    entries = leaderboard(folder, tmp_path / "board.html")
    assert [(e.name, e.rank) for e in entries] == [
        ("weak", 1), ("b", 1), ("a", 2), ("c", None),
    ]  # fmt: skip
    standard = entries[1:]
    assert standard[2].worst > standard[0].worst > standard[1].worst
    assert {e.suite for e in standard} == {"standard-images"}


def test_equal_networks_share_a_rank(tmp_path):
    for name in ("x", "y"):
        records.write(tmp_path / "in" / name, records.evaluation(90))
    entries = leaderboard(tmp_path / "in", tmp_path / "board.html")
    assert [e.rank for e in entries] == [1, 1]


def test_the_export_has_the_fields_of_robustbench(folder, tmp_path):
    entries = leaderboard(folder, tmp_path / "board.html")
    exported = json.loads((tmp_path / "board.json").read_text())["entries"]
    assert [set(entry) for entry in exported] == [FIELDS] * 4
    b = next(entry for entry in exported if entry["name"] == "b")
    assert b["eps"] == "0.1"
    assert b["autoattack_acc"] == f"{100 * entries[1].worst:.2f}"
    assert [entry["unreliable"] for entry in exported] == [False, False, False, True]


def test_the_results_of_this_project_make_a_board(tmp_path):
    entries = leaderboard(RESULTS, tmp_path / "board.html")
    peers = {p.stem.removeprefix("peers-"): p for p in RESULTS.glob("peers-*.json")}
    known = {e.name: e for e in entries}
    assert set(peers) <= set(known)
    for name, path in peers.items():
        values = json.loads(path.read_text())
        entry = known[name]
        assert entry.worst == pytest.approx(values["standard"]["standing"])
        assert entry.interval == pytest.approx(tuple(values["standard"]["interval"]))
        assert entry.rank is None  # it says nothing of doubts
    assert "digits-natural" in (tmp_path / "board.html").read_text()


def test_a_folder_without_evaluations_is_refused(tmp_path):
    with pytest.raises(Refusal, match="holds no evaluation"):
        leaderboard(tmp_path, tmp_path / "board.html")
    with pytest.raises(Refusal, match="no folder"):
        leaderboard(tmp_path / "none", tmp_path / "board.html")
    (tmp_path / "x.json").write_text(json.dumps({"kind": "peers", "n": "many"}))
    with pytest.raises(Refusal, match="damaged"):
        leaderboard(tmp_path, tmp_path / "board.html")
