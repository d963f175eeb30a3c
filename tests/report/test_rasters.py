from __future__ import annotations

from spikeproof.evaluate._packing import packed
from spikeproof.report._rasters import parting, raster_section


def raster(sample, layer, clean, attacked, parted, steps=2):
    neurons = tuple(range(len(clean) // steps))
    return packed({
        "sample": sample, "layer": layer, "T": 9, "steps": steps, "neurons": neurons,
        "clean": tuple(map(bool, clean)), "attacked": tuple(map(bool, attacked)), "parted": parted,
    })  # fmt: skip


ROWS = [
    raster(3, "layers.2", (1, 0, 0, 0), (1, 0, 0, 0), 0.0),
    raster(3, "layers.6", (1, 1, 0, 0), (1, 0, 1, 0), 0.5),
    raster(5, "layers.2", (1, 0) * 8, (0, 1) * 8, 1.0),
    raster(5, "layers.6", (0, 0) * 8, (0, 0) * 8, 0.0),
]


def test_every_spike_is_marked_as_kept_added_or_removed():
    note, first, second = raster_section({"rasters": ROWS}, "k").blocks
    assert [p["rows"] for p in first.data["panels"]] == [["=.", ".."], ["=-", "+."]]
    assert second.data["panels"][0]["rows"] == ["-+"] * 8
    assert [cell.value for cell in first.table.rows[1]][1:] == [9, 2, 1, 1, 1, 0.5]
    assert (first.title, second.title) == ("Sample 3", "Sample 5")
    assert "first in layers.6 on 1 of 2 samples, in layers.2 on 1 of 2" in note.text


def test_samples_that_never_part_are_counted():
    same = [raster(0, "a", (1, 0), (1, 0), 0.0)]
    assert parting([same]) == "Clean and attacked spikes part first on 1 they never do."
    assert raster_section({"rasters": []}, "k") is None
    assert raster_section({}, "k") is None
