from __future__ import annotations

import json

import pytest

from spikeproof.errors import Refusal
from spikeproof.report import make_page, read_runs
from spikeproof.report._energy import Neurons, energy_section, layer_energy, packed_section
from spikeproof.report._inside import fed
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
STORED = {
    "bytes": 1000, "weights": {"kept": 70, "of": 140}, "accuracy": 0.9, "samples": 9,
    "spikes": 99.0, "layers": [
        {"name": "1:conv", "kept": 20, "weights": 90, "bytes": 150},
        {"name": "3:linear", "kept": 50, "weights": 50, "bytes": 250},
    ],
}  # fmt: skip


def columns(table):
    return dict(zip(table.heads, zip(*table.rows, strict=True), strict=True))


def test_layers_stand_with_density_operations_and_their_cost():
    facts, table = energy_section(RECORD, "k").blocks
    said = {fact.name: fact.text for fact in facts.facts}
    assert (said["Operations"], said["Arithmetic"], said["Analog"]) == ("1,000", "3.5 µJ", "2 µJ")
    shown = [cell.value for cell in table.rows[0]][2:]
    assert shown == pytest.approx([100, 0.25, 64, 700, 0.5, 3.22])
    assert table.rows[1][-1].value == pytest.approx(0.27)


def test_layers_stand_with_their_bytes_and_the_neurons_that_they_feed():
    neurons = {"layers.0": Neurons("layers.2", 64, 4, {"clean": 0.1, "attacked": 0.2})}
    section = energy_section(RECORD, "k", STORED, neurons)
    found = columns(section.blocks[1])
    assert [cell.value for cell in found["Bytes"]] == [150, 250]
    assert "Of the packed file 600 bytes" in section.lead
    assert [cell.text for cell in found["Feeds"]] == ["layers.2", "\u2013"]
    assert [cell.value for cell in found["Neurons"]] == [64, None]
    assert [cell.value for cell in found["Fires, clean"]] == [0.1, None]
    assert [cell.value for cell in found["Fires, attacked"]] == [0.2, None]


@pytest.mark.parametrize("change", [{"kept": 26}, {"weights": 101}, None])
def test_bytes_of_another_network_are_not_put_beside_its_layers(change):
    first, *others = STORED["layers"]
    layers = [first | change, *others] if change else others
    table = energy_section(RECORD, "k", STORED | {"layers": layers}).blocks[1]
    assert "Bytes" not in table.heads


def test_the_neurons_of_a_layer_are_the_next_on_the_trail():
    diagnosis = records.diagnosis()
    trail = diagnosis["summary"]["seen"]["clean"]["trails"]["own gradient"]
    (first,) = [op for op in trail if op["name"] == "layers.10"]
    trail[:] = [
        first | {"name": name} for name in ("input", "a", "b", "layers.2", "c", "layers.10", "d")
    ]
    diagnosis["summary"]["seen"]["attacked"]["rate"]["layers.2"] = 0.25
    found = fed(diagnosis)
    assert {name: one.name for name, one in found.items()} == {
        "input": "layers.2", "a": "layers.2", "b": "layers.2", "c": "layers.10"
    }  # fmt: skip
    assert found["a"] == Neurons("layers.2", 64, 4, {"clean": 0.2, "attacked": 0.25})


def test_the_energy_of_layers_is_that_of_the_whole():
    values = [
        RECORD["layers"][0] | {"reads": reads, "operations": count}
        for reads, count in (("analog", 10.0), ("graded", 100.0), ("spikes", 1000.0))
    ]
    assert [layer_energy(RECORD, one) for one in values] == pytest.approx([46.0, 460.0, 900.0])


def test_a_packed_network_shows_what_it_weighs(tmp_path):
    record = {"bytes": 8210, "weights": {"kept": 1358, "of": 13584}, "accuracy": 0.9, "samples": 9,
              "spikes": 99.0}  # fmt: skip
    (facts,) = packed_section(record, "k").blocks
    assert [fact.text for fact in facts.facts] == ["8,210 bytes", "1,358", "90.0\u00a0%", "99"]
    found = columns(packed_section(STORED, "k").blocks[1])
    assert [cell.value for cell in found["Bytes"]] == [150, 250, 600]
    records.write(tmp_path / "evaluation", records.evaluation())
    (tmp_path / PACKED).write_text(json.dumps(record))
    page = make_page(read_runs([tmp_path]))
    assert [s.title for s in page.sections][-2:] == ["Packed", "Provenance"]


def test_a_run_with_its_energy_shows_it(tmp_path):
    records.write(tmp_path / "evaluation", records.evaluation())
    (tmp_path / ENERGY).write_text(json.dumps(RECORD))
    (tmp_path / PACKED).write_text(json.dumps(STORED))
    page = make_page(read_runs([tmp_path]))
    titles = [s.title for s in page.sections]
    assert titles[-3:] == ["Layer by layer", "Packed", "Provenance"]
    assert len(page.sections[-2].blocks) == 1  # its bytes are in the other table
    (tmp_path / ENERGY).write_text(json.dumps(RECORD | {"layers": [{}]}))
    with pytest.raises(Refusal, match="damaged"):
        make_page(read_runs([tmp_path]))


def test_rates_stand_in_one_table_where_every_neuron_is_fed(tmp_path):
    diagnosis = records.diagnosis()
    for part in diagnosis["summary"]["seen"].values():
        for name, trail in part["trails"].items():
            ops = {op["name"]: op for op in trail}
            part["trails"][name] = [
                ops["input"], ops["input"] | {"name": "layers.0", "kind": "conv"},
                ops["layers.10"] | {"name": "layers.2"},
                ops["input"] | {"name": "layers.3", "kind": "linear"}, ops["layers.10"],
            ]  # fmt: skip
    records.write(tmp_path / "evaluation", records.evaluation())
    records.write(tmp_path / "diagnosis", diagnosis)
    titles = [s.title for s in make_page(read_runs([tmp_path])).sections]
    assert ("Layers" in titles, "Layer by layer" in titles) == (True, False)
    (tmp_path / ENERGY).write_text(json.dumps(RECORD))
    titles = [s.title for s in make_page(read_runs([tmp_path])).sections]
    assert ("Layers" in titles, "Layer by layer" in titles) == (False, True)
