from __future__ import annotations

import json

import pytest

from spikeproof.errors import Refusal
from spikeproof.report import make_page, read_runs
from spikeproof.report._energy import energy_section, packed_section
from spikeproof.report._read import ENERGY, PACKED
from tests.report import records

RECORD = {
    "samples": 8,
    "layers": [
        {"name": "layers.0", "reads": "analog", "weights": 100, "kept": 25, "events": 64.0,
         "operations": 700.0, "possible": 1400.0, "dense": 900.0},
        {"name": "layers.3", "reads": "spikes", "weights": 50, "kept": 50, "events": 9.5,
         "operations": 300.0, "possible": 600.0, "dense": 300.0},
    ],
    "picojoules": {"analog": 2e6, "synaptic": 1e6, "updates": 0.5e6},
    "table": {"source": "a book", "ac": 0.9, "mac": 4.6},
}  # fmt: skip


def test_layers_stand_with_density_operations_and_their_cost():
    facts, table = energy_section(RECORD, "k").blocks
    said = {fact.name: fact.text for fact in facts.facts}
    assert (said["Operations"], said["Arithmetic"], said["Analog"]) == ("1,000", "3.5 µJ", "2 µJ")
    assert [cell.value for cell in table.rows[0]][2:] == [100, 0.25, 64, 700, 0.5]


def test_a_packed_network_shows_what_it_weighs(tmp_path):
    record = {"bytes": 8210, "weights": {"kept": 1358, "of": 13584}, "accuracy": 0.9, "samples": 9,
              "spikes": 99.0}  # fmt: skip
    (facts,) = packed_section(record, "k").blocks
    assert [fact.text for fact in facts.facts] == ["8,210 bytes", "1,358", "90.0\u00a0%", "99"]
    records.write(tmp_path / "evaluation", records.evaluation())
    (tmp_path / PACKED).write_text(json.dumps(record))
    page = make_page(read_runs([tmp_path]))
    assert [s.title for s in page.sections][-2:] == ["Packed", "Provenance"]


def test_a_run_with_its_energy_shows_it(tmp_path):
    records.write(tmp_path / "evaluation", records.evaluation())
    (tmp_path / ENERGY).write_text(json.dumps(RECORD))
    page = make_page(read_runs([tmp_path]))
    assert [s.title for s in page.sections][-2:] == ["Operations and energy", "Provenance"]
    (tmp_path / ENERGY).write_text(json.dumps(RECORD | {"layers": [{}]}))
    with pytest.raises(Refusal, match="damaged"):
        make_page(read_runs([tmp_path]))
