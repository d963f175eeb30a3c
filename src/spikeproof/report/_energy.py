"""Operations and energy, layer by layer, where they were counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikeproof.report._blocks import Cell, Fact, Facts, Section, Table
from spikeproof.report._words import counted, number, number_cell, percent, share_cell


def spent(record: Mapping[str, Any]) -> float:
    """Returns the energy of a sample's arithmetic in microjoules."""
    return sum(map(float, record["picojoules"].values())) / 1e6


def packed_section(record: Mapping[str, Any], key: str) -> Section:
    """Returns what a packed network weighs, and how it does without torch."""
    weights = record["weights"]
    facts = (
        Fact("File", f"{record['bytes']:,} bytes"),
        Fact("Weights kept", f"{weights['kept']:,}", f"of {weights['of']:,}"),
        Fact("Right", percent(record["accuracy"]), f"of {counted(record['samples'], 'sample')}"),
        Fact("Spikes", number(record["spikes"]), "a sample"),
    )
    lead = "The network as a file of plain arrays, run without torch."
    return Section(key, "Packed", (Facts(facts),), lead)


def energy_section(record: Mapping[str, Any], key: str) -> Section:
    """Returns the layers with their weights, density and operations, and what these cost."""
    rows = tuple(
        (
            Cell(str(layer["name"])),
            Cell(str(layer["reads"])),
            number_cell(layer["weights"]),
            share_cell(layer["kept"] / max(layer["weights"], 1)),
            number_cell(layer["events"], 4),
            number_cell(layer["operations"], 4),
            share_cell(layer["operations"] / max(layer["possible"], 1)),
        )
        for layer in record["layers"]
    )
    heads = (
        "Layer", "Reads", "Weights", "Density", "Events", "Operations", "Of all possible",
    )  # fmt: skip
    shares = {str(name): float(value) for name, value in record["picojoules"].items()}
    total = sum(layer["operations"] for layer in record["layers"])
    facts = [Fact("Operations", number(total), "a sample")]
    facts += [Fact("Arithmetic", f"{number(spent(record))} µJ", "a sample")]
    facts += [Fact(name.capitalize(), f"{number(v / 1e6)} µJ") for name, v in shares.items()]
    source = str(record["table"]["source"])
    return Section(
        key,
        "Operations and energy",
        (Facts(tuple(facts)), Table("A sample, on average", heads, rows)),
        f"Means over {counted(int(record['samples']), 'sample')}. Energy is that of arithmetic "
        f"alone ({source}); memory and wires are left out.",
    )
