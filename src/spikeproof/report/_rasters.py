"""Spikes of single samples, clean against attacked, and the layer in which the two part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spikeproof.report._blocks import Cell, Figure, Note, Section, Table
from spikeproof.report._read import plain_row
from spikeproof.report._words import number_cell, share_cell

# clean and attacked bit of a spike to what the script draws
MARKS = {(0, 0): ".", (1, 1): "=", (1, 0): "-", (0, 1): "+"}


def raster_section(diagnosis: Mapping[str, Any], key: str) -> Section | None:
    """Returns the rasters of a diagnosis, sample by sample."""
    samples: dict[int, list[Mapping[str, Any]]] = {}
    for raster in diagnosis.get("rasters") or ():
        samples.setdefault(int(raster["sample"]), []).append(raster)
    if not samples:
        return None
    figures = [_figure(layers, f"{key}-{n}") for n, layers in enumerate(samples.values(), 1)]
    return Section(
        key,
        "Spikes, clean against attacked",
        (Note(parting(list(samples.values()))), *figures),
        "Rows are neurons, spread evenly over a layer, columns steps of time. The framed layer is "
        "the first in which clean and attacked spikes part.",
    )


def parting(samples: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Returns where clean and attacked spikes part, in a sentence."""
    first = [next((str(r["layer"]) for r in layers if r["parted"]), "") for layers in samples]
    said = [
        f"in {name} on {first.count(name)} of {len(samples)} samples"
        for name in dict.fromkeys(filter(None, first))
    ]
    same = f"on {first.count('')} they never do" if "" in first else ""
    return f"Clean and attacked spikes part first {', '.join(filter(None, [*said, same]))}."


def _figure(layers: Sequence[Mapping[str, Any]], id: str) -> Figure:
    panels, rows = [], []
    for raster in layers:
        name, parted, marks = str(raster["layer"]), float(raster["parted"]), _rows(raster)
        panels.append({"name": name, "parted": parted, "rows": marks})
        counts = [number_cell(sum(row.count(mark) for row in marks)) for mark in "=+-"]
        shape = number_cell(raster["T"]), number_cell(len(marks))
        rows.append((Cell(name), *shape, *counts, share_cell(parted)))
    heads = ("Layer", "Steps", "Neurons shown", "Both", "Added", "Removed", "Of all, differ")
    return Figure(
        id,
        f"Sample {layers[0]['sample']}",
        "rasters",
        {"panels": panels},
        Table("Spikes of the neurons that are shown", heads, tuple(rows)),
        half=True,
    )


def _rows(raster: Mapping[str, Any]) -> list[str]:
    """Returns a text for each neuron with a mark for each step."""
    shape = len(plain_row(raster["neurons"])), int(raster["steps"])
    clean, attacked = (np.reshape(plain_row(raster[name]), shape) for name in ("clean", "attacked"))
    return [
        "".join(MARKS[int(a), int(b)] for a, b in zip(one, other, strict=True))
        for one, other in zip(clean, attacked, strict=True)
    ]
