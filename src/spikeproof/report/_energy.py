"""Layer by layer: weights, bytes, operations, energy, and the neurons that they feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spikeproof.report._blocks import BLANK, Cell, Fact, Facts, Section, Table
from spikeproof.report._words import counted, number, number_cell, percent, share_cell

NANO = 1e3  # picojoules


@dataclass(frozen=True)
class Neurons:
    """A layer of neurons: how many, and how often they fire on which inputs."""

    name: str
    count: int
    steps: int
    rates: Mapping[str, float] = field(default_factory=dict)


def spent(record: Mapping[str, Any]) -> float:
    """Returns the energy of a sample's arithmetic in microjoules."""
    return sum(map(float, record["picojoules"].values())) / 1e6


def packed_section(record: Mapping[str, Any], key: str, *, alone: bool = True) -> Section:
    """Returns what a packed network weighs, and how it does without torch.

    ``alone`` gives it a table of its layers, where no other has their bytes.
    """
    weights = record["weights"]
    facts = (
        Fact("File", f"{record['bytes']:,} bytes"),
        Fact("Weights kept", f"{weights['kept']:,}", f"of {weights['of']:,}"),
        Fact("Right", percent(record["accuracy"]), f"of {counted(record['samples'], 'sample')}"),
        Fact("Spikes", number(record["spikes"]), "a sample"),
    )
    lead = "The network as a file of plain arrays, run without torch."
    layers = record.get("layers") or ()
    if not (alone and layers):
        return Section(key, "Packed", (Facts(facts),), lead)
    rows = [
        (Cell(str(one["name"])), number_cell(one["weights"]), _density(one),
         number_cell(one["bytes"]))
        for one in layers
    ]  # fmt: skip
    rows.append((Cell("all else"), BLANK, BLANK, number_cell(_rest(record))))
    table = Table("Where the bytes are", ("Layer", "Weights", "Density", "Bytes"), tuple(rows))
    return Section(key, "Packed", (Facts(facts), table), lead)


def energy_section(
    record: Mapping[str, Any],
    key: str,
    packed: Mapping[str, Any] | None = None,
    fed: Mapping[str, Neurons] | None = None,
) -> Section:
    """Returns the layers with their weights, density and operations, and what these cost.

    ``packed`` tells the bytes of each, ``fed`` the neurons that a layer feeds.
    """
    layers = record["layers"]
    sizes = layer_bytes(layers, packed)
    inputs = list(dict.fromkeys(name for one in (fed or {}).values() for name in one.rates))
    columns = [
        ("Layer", [Cell(str(layer["name"])) for layer in layers]),
        ("Reads", [Cell(str(layer["reads"])) for layer in layers]),
        ("Weights", [number_cell(layer["weights"]) for layer in layers]),
        ("Density", [_density(layer) for layer in layers]),
        ("Bytes", [number_cell(size) for size in sizes]),
        ("Events", [number_cell(layer["events"], 4) for layer in layers]),
        ("Operations", [number_cell(layer["operations"], 4) for layer in layers]),
        (
            "Of all possible",
            [share_cell(layer["operations"] / max(layer["possible"], 1)) for layer in layers],
        ),
        ("Energy, nJ", [number_cell(layer_energy(record, layer) / NANO) for layer in layers]),
    ]
    if not sizes:
        del columns[4]
    if fed:
        met = [fed.get(str(layer["name"])) for layer in layers]
        columns += [
            ("Feeds", [Cell(one.name) if one else BLANK for one in met]),
            ("Neurons", [number_cell(one.count if one else None) for one in met]),
            ("Steps", [number_cell(one.steps if one else None) for one in met]),
        ]
        columns += [(f"Fires, {name}", [_rate(one, name) for one in met]) for name in inputs]
    table = Table(
        "A sample, on average",
        tuple(head for head, _ in columns),
        tuple(zip(*(cells for _, cells in columns), strict=True)),
    )
    shares = {str(name): float(value) for name, value in record["picojoules"].items()}
    total = sum(layer["operations"] for layer in layers)
    facts = [Fact("Operations", number(total), "a sample")]
    facts += [Fact("Arithmetic", f"{number(spent(record))} µJ", "a sample")]
    facts += [Fact(name.capitalize(), f"{number(v / 1e6)} µJ") for name, v in shares.items()]
    said = [
        f"Means over {counted(int(record['samples']), 'sample')}. Energy is that of arithmetic "
        f"alone ({record['table']['source']}); memory and wires are left out."
    ]
    if sizes and packed:
        said.append(f"Of the packed file {_rest(packed):,} bytes are none of these layers'.")
    if fed:
        said.append("Rates are spikes per neuron and step of the neurons that a layer feeds.")
    return Section(key, "Layer by layer", (Facts(tuple(facts)), table), " ".join(said))


def layer_energy(record: Mapping[str, Any], layer: Mapping[str, Any]) -> float:
    """Returns the picojoules of a layer: what is no spike is multiplied."""
    cost = record["table"]["ac" if layer["reads"] == "spikes" else "mac"]
    return float(layer["operations"] * cost)


def layer_bytes(layers: Sequence[Mapping[str, Any]], packed: Mapping[str, Any] | None) -> list[int]:
    """Returns the bytes of each layer in the packed file, or none where it has other layers.

    Both are in the order in which layers run; a packed one may have lost neurons that were dead.
    """
    found = (packed or {}).get("layers") or ()
    fits = len(found) == len(layers) and all(
        theirs[name] <= ours[name]
        for ours, theirs in zip(layers, found, strict=True)
        for name in ("kept", "weights")
    )
    return [int(one["bytes"]) for one in found] if fits else []


def _rest(packed: Mapping[str, Any]) -> int:
    """Returns the bytes of a file that are no layer's: structure, thresholds, norms, checksums."""
    return int(packed["bytes"]) - sum(int(one["bytes"]) for one in packed["layers"])


def _density(layer: Mapping[str, Any]) -> Cell:
    return share_cell(layer["kept"] / max(layer["weights"], 1))


def _rate(neurons: Neurons | None, inputs: str) -> Cell:
    rate = neurons.rates.get(inputs) if neurons else None
    return BLANK if rate is None else share_cell(rate)
