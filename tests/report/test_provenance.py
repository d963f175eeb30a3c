from __future__ import annotations

import base64
import gzip
import hashlib

from spikeproof.report import read_runs
from spikeproof.report._provenance import Carrier, command, provenance_section
from tests.report import records


def made(tmp_path, **values):
    folder = records.write(tmp_path / "run", records.evaluation(**values))
    (run,) = read_runs([folder])
    return run, run.evaluations[0]


def test_the_page_gives_back_the_record_byte_by_byte(tmp_path):
    run, found = made(tmp_path)
    section = provenance_section(found, run, "k", Carrier())
    download = section.blocks[-1]
    content = gzip.decompress(base64.b64decode(download.packed))
    assert content == found.path.read_bytes()
    facts = {row[0].text: row[1].text for row in section.blocks[0].rows}
    assert facts["SHA-256 of the record"] == hashlib.sha256(content).hexdigest()
    assert facts["Forward passes"].startswith(f"{sum(s.forwards for s in found.steps):,} ")
    assert facts["Packages"] == "torch 2.13.0"
    assert facts["Seed"] == "0"


def test_a_page_that_is_full_leaves_records_out_and_says_so(tmp_path):
    _, found = made(tmp_path)
    carrier = Carrier(10_000)
    blocks = [carrier.download(found.path, f"id-{n}", "x").block for n in range(20)]
    assert blocks[0] == "download"
    assert blocks[-1] == "note"
    assert blocks == sorted(blocks)


def test_names_of_files_are_harmless(tmp_path):
    _, found = made(tmp_path)
    names = [Carrier().download(found.path, "id", n).file for n in ("../../x y", "a/b", "<script>")]
    assert names == ["x-y.json", "a-b.json", "script.json"]


def test_the_command_asks_for_the_same_again(tmp_path):
    _, found = made(tmp_path)
    assert command(found) == (
        "spikeproof evaluate MODEL --data made-up --threat linf:0.1 --suite standard --limit 40 "
        "--seed 0"
    )


def test_training_is_told_where_it_is_known(tmp_path):
    root = tmp_path / "whole"
    training = {"kind": "training", "recipe": {"train": {"epochs": 3}}, "result": {"steps": 9}}
    records.write(root, training)
    records.write(root / "evaluation", records.evaluation())
    (run,) = read_runs([root])
    section = provenance_section(run.evaluations[0], run, "k", Carrier())
    rows = {row[0].text: row[1].text for row in section.blocks[1].rows}
    assert rows == {"train.epochs": "3", "result.steps": "9"}
