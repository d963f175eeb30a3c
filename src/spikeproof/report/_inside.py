"""What a diagnosis measured inside a network: trail, rates, vulnerability, curves, landscape."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spikeproof.report._blocks import BLANK, Cell, Figure, Section, Table, present
from spikeproof.report._energy import Neurons
from spikeproof.report._rasters import raster_section
from spikeproof.report._words import counted, number, number_cell, percent, share_cell

PLANES = 4
WORDS = {"width": "width of the surrogate", "steps": "iterations", "budget": "budget"}


def inside_sections(
    diagnosis: Mapping[str, Any], key: str, *, layers: bool = True
) -> Iterator[Section]:
    """Yields what a diagnosis has; a part that it lacks is left out, and ``layers`` on demand."""
    told = _briefly(diagnosis.get("summary") or {}, diagnosis)
    sections = (
        _masking(told, f"{key}-widths"),
        _trail(told, f"{key}-trail"),
        raster_section(diagnosis, f"{key}-rasters"),
        _vulnerability(told, f"{key}-vulnerability"),
        _landscape(diagnosis, told, f"{key}-landscape"),
        _places(told, f"{key}-places"),
        _layers(diagnosis, told, f"{key}-layers") if layers else None,
        _notes(diagnosis, f"{key}-notes"),
    )
    yield from (section for section in sections if section is not None)


def _masking(told: Mapping[str, Any], key: str) -> Section | None:
    """Returns what masked gradients do to one attack, over their width, its length, its budget."""
    figures = []
    for over in ("width", "steps", "budget", "rule"):
        points = [p for p in told.get("curves") or () if p["over"] == over]
        points = [p for p in points if p["standing"] is not None]
        if len(points) > 1:
            figures.append(_curve(over, points, f"{key}-{over}"))
    if not figures:
        return None
    return Section(
        key,
        "One attack, one thing changed",
        tuple(figures),
        "The same short attack on the same samples, with one thing changed. A curve that jumps "
        "with the width of the surrogate says that the width decides and not the network.",
    )


def _curve(over: str, points: Sequence[Mapping[str, Any]], id: str) -> Figure:
    rows = tuple(
        (Cell(str(p["name"])), number_cell(p["value"]), share_cell(p["standing"])) for p in points
    )
    table = Table(f"Samples that stand, by {over}", (over.capitalize(), "Value", "Stands"), rows)
    title = f"By {WORDS.get(over, over)}"
    if over == "rule":
        bars = [{"name": p["name"], "value": p["standing"], "tone": ""} for p in points]
        return Figure(id, title, "dots", {"rows": bars, "x": {"label": "stands"}}, table, half=True)
    line = {
        "name": "stands",
        "tone": "attack",
        "points": [[p["value"], p["standing"]] for p in points],
    }
    x = {"label": WORDS[over], "scale": "log"}
    return Figure(id, title, "lines", {"x": x, "series": [line], "marks": []}, table, half=True)


def _trail(told: Mapping[str, Any], key: str) -> Section | None:
    """Returns how much of the gradient each operation lets through, clean and attacked."""
    seen = told.get("seen") or {}
    rules = list(dict.fromkeys(rule for part in seen.values() for rule in part["trails"]))
    figures = []
    for number_, rule in enumerate(rules, 1):
        trails = {
            name: part["trails"][rule] for name, part in seen.items() if rule in part["trails"]
        }
        figures += _trails(rule, trails, f"{key}-{number_}")
    if not figures:
        return None
    return Section(
        key,
        "The trail of sparsity",
        tuple(figures),
        "The gradient on its way from the logits back to the input: the share of its entries that "
        "is exactly zero, that is nearly zero, and its size. A sparse gradient can be the "
        "network's nature or the surrogate's; what happens to attacked samples tells.",
    )


def _trails(rule: str, trails: Mapping[str, Sequence[Mapping[str, Any]]], id: str) -> list[Figure]:
    zeros: list[dict[str, Any]] = []
    norms: list[dict[str, Any]] = []
    rows = []
    names = [op["name"] for op in next(iter(trails.values()))]
    for inputs, trail in trails.items():
        tone = {"clean": "clean", "attacked": "attack"}.get(inputs, "")
        exact = [[op["name"], op["zeros"]] for op in trail if op["zeros"] is not None]
        near = [[op["name"], op["near"].get("0.001")] for op in trail]
        size = [[op["name"], op["l2"]] for op in trail if op["l2"]]
        zeros.append({"name": f"{inputs}, exactly zero", "tone": tone, "points": exact})
        near = [[name, share] for name, share in near if share is not None]
        zeros.append(
            {"name": f"{inputs}, below 0.1 % of the largest", "tone": tone, "points": near,
             "dashed": True}
        )  # fmt: skip
        norms.append({"name": inputs, "tone": tone, "points": size})
        rows += [_trail_row(inputs, op) for op in trail]
    heads = ("Inputs", "Operation", "Kind", "Zero", "Below 0.1 %", "L1", "L2", "Weights reached")
    table = Table(f"The trail by {rule}", heads, tuple(rows), filtered=len(rows) > 20)
    x = {"label": "operation, from the input on", "scale": "point", "domain": names}
    shares = {"x": x, "series": zeros, "marks": [], "y": {"label": "share that is zero"}}
    sizes = {"x": x, "series": norms, "marks": [], "y": {"label": "L2 norm", "scale": "log"}}
    plain = f"by {rule}"
    return [
        Figure(f"{id}-zeros", f"Entries that are zero, {plain}", "lines", shares, table, half=True),
        Figure(f"{id}-norms", f"Size of the gradient, {plain}", "lines", sizes, table, half=True),
    ]


def _trail_row(inputs: str, op: Mapping[str, Any]) -> tuple[Cell, ...]:
    reached = op.get("weight_density")
    return (
        Cell(inputs),
        Cell(str(op["name"])),
        Cell(str(op["kind"]).replace("_", " ")),
        _share(op["zeros"]),
        _share(op["near"].get("0.001")),
        number_cell(op["l1"]),
        number_cell(op["l2"]),
        _share(reached),
    )


def _share(value: float | None) -> Cell:
    return BLANK if value is None else share_cell(value)


def _vulnerability(told: Mapping[str, Any], key: str) -> Section | None:
    """Returns the ratio of both vulnerabilities between its bounds."""
    found = [v for v in told.get("vulnerability") or () if v["ratio"] is not None]
    if not found:
        return None
    rows, table = [], []
    for v in found:
        name = f"{v['forward']}, {v['rule']}, eps {number(v['eps'])}"
        for said, value, tone in (
            ("measured ratio", v["ratio"], "attack"),
            ("predicted by the gradient", v["linear"], "clean"),
            ("upper bound", v["upper"], "quiet"),
        ):
            if value:
                rows.append({"name": name, "value": value, "group": said, "tone": tone})
        table.append(
            (
                Cell(name), number_cell(v["ratio"]), number_cell(v["linear"]),
                number_cell(v["upper"]), _share(v["above"]), _share(v["below"]),
            )
        )  # fmt: skip
    data = {"rows": rows, "x": {"label": "median over samples", "scale": "log", "at": 3}}
    heads = ("Where", "Ratio", "Predicted", "Upper bound", "Above it", "Below 3")
    figure = Figure(
        f"{key}-ratio",
        "Adversarial over random vulnerability",
        "dots",
        data,
        Table("Medians over samples, and how many samples leave the bounds", heads, tuple(table)),
        "The line stands at 3, the lower bound. Real is the forward pass of spikes, smooth the one "
        "without their steps.",
    )
    return Section(
        key,
        "Vulnerability against its bounds",
        (figure,),
        "How much more the worst change does than a random one. To first order the ratio lies "
        "between 3 and three times the number of entries of the gradient that are not zero: a "
        "sparse gradient would make a network safer. Where the measured ratio leaves these bounds, "
        "the gradient does not describe the network.",
    )


def _landscape(diagnosis: Mapping[str, Any], told: Mapping[str, Any], key: str) -> Section | None:
    planes = list(diagnosis.get("planes") or ())
    kinds = {p["kind"] for p in planes}
    chosen = [p for p in planes if p["kind"] == ("adversarial" if len(kinds) > 1 else p["kind"])]
    figures = [_plane(p, f"{key}-{n}") for n, p in enumerate(chosen[:PLANES], 1)]
    slopes = [s for s in told.get("slopes") or () if s["agreement"] is not None]
    table = None
    if slopes:
        table = Table(
            "How often the loss rises where the gradient says so, along random directions",
            ("Gradient", "Step", "Agreement"),
            tuple(
                (Cell(str(s["rule"])), number_cell(s["step"]), share_cell(s["agreement"]))
                for s in slopes
            ),
        )
    blocks = present([*figures, table])
    if not blocks:
        return None
    return Section(
        key,
        "The landscape around a sample",
        blocks,
        "The margin of the right class on planes through single samples, one direction towards "
        "their adversarial and one random. Where it is negative, the network is wrong.",
    )


def _plane(plane: Mapping[str, Any], id: str) -> Figure:
    at = _floats(plane["at"])
    margin = [-value for value in _floats(plane["margin"])]  # attackers count wrong as positive
    side = len(at)
    if len(margin) != side * side:
        raise ValueError(f"{len(margin)} margins on a plane of {side} points a side")
    wrong = sum(value < 0 for value in margin) / len(margin)
    middle = margin[(side // 2) * side + side // 2]
    rows = (
        (Cell("at the sample"), number_cell(middle)),
        (Cell("smallest"), number_cell(min(margin))),
        (Cell("largest"), number_cell(max(margin))),
        (Cell("share of the plane that is wrong"), share_cell(wrong)),
    )
    first = "towards the adversarial" if plane["kind"] == "adversarial" else "random signs"
    return Figure(
        id,
        f"Margin around sample {plane['sample']}",
        "field",
        {"at": at, "values": margin, "x": {"label": first}, "y": {"label": "random signs"}},
        Table("The margin on this plane", ("Where", "Margin"), rows),
        f"{percent(wrong)} of the plane is wrong.",
        half=True,
    )


def _layers(diagnosis: Mapping[str, Any], told: Mapping[str, Any], key: str) -> Section | None:
    """Returns the layers of neurons in their order, with their rates, clean and attacked."""
    rates = {inputs: part["rate"] for inputs, part in told["seen"].items()}
    layers = firing(diagnosis)
    if not layers or not rates:
        return None
    rows = []
    for name, layer in layers.items():
        shares = [part.get(name) for part in rates.values()]
        counts = [number_cell(layer.get(k)) for k in ("neurons", "T")]
        rows.append((Cell(name), *counts, *(_share(share) for share in shares)))
    said = (f"Fires, {inputs}" for inputs in rates)
    table = Table("Spikes per neuron and step", ("Layer", "Neurons", "Steps", *said), tuple(rows))
    return Section(key, "Layers", (table,), "How often the neurons of each layer fire.")


def fed(diagnosis: Mapping[str, Any]) -> dict[str, Neurons]:
    """Returns the neurons that every layer with weights feeds: the next ones on the trail."""
    told = diagnosis.get("summary") or {}
    seen = dict(sorted((told.get("seen") or {}).items(), reverse=True))  # clean first
    found = {}
    for layer in firing(diagnosis).values():
        name = str(layer["name"])
        rates = {str(k): part["rate"][name] for k, part in seen.items() if name in part["rate"]}
        found[name] = Neurons(name, int(layer["neurons"]), int(layer["T"]), rates)
    trails = [trail for part in seen.values() for trail in part["trails"].values()]
    fed: dict[str, Neurons] = {}
    waiting: list[str] = []
    for operation in trails[0] if trails else ():
        name = str(operation["name"])
        if name in found:
            fed |= dict.fromkeys(waiting, found[name])
            waiting = []
        else:
            waiting.append(name)
    return fed


def firing(diagnosis: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the layers of neurons of a diagnosis by their names."""
    return {str(f["name"]): f for s in diagnosis.get("seen") or () for f in s.get("firing") or ()}


def _places(told: Mapping[str, Any], key: str) -> Section | None:
    """Returns what one attack breaks on the input and behind the encoder."""
    found = told.get("domains")
    if not found:
        return None
    rows = (
        (Cell("nobody attacks"), _share(found["clean"])),
        (Cell("the input is attacked, as a sensor delivers it"), _share(found["sensor"])),
        (Cell("every encoded step is attacked by itself"), _share(found["spikes"])),
        (Cell("the same, put back to what the encoder emits"), _share(found["legal"])),
    )
    table = Table(f"Within L∞ ≤ {number(found['eps'])}", ("Where", "Stands"), rows)
    return Section(
        key,
        "Before and behind the encoder",
        (table,),
        "An attack on encoded steps may make what no sensor and no encoder does. What is left once "
        "it is put back to legal values is what counts.",
    )


def _briefly(told: Mapping[str, Any], diagnosis: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a summary in which rules have short names, and stand in the order of asking."""
    order = {str(rule): n for n, rule in enumerate(diagnosis.get("rules") or ())}
    seen = {
        inputs: {
            **part,
            "trails": dict(sorted(part["trails"].items(), key=lambda item: order.get(item[0], 0))),
        }
        for inputs, part in sorted((told.get("seen") or {}).items(), reverse=True)  # clean first
    }
    rows = [*(told.get("vulnerability") or ()), *(told.get("slopes") or ())]
    curves = told.get("curves") or ()
    names = dict.fromkeys(rule for part in seen.values() for rule in part["trails"])
    names |= dict.fromkeys(str(row["rule"]) for row in rows)
    names |= dict.fromkeys(str(p["name"]) for p in curves if p["over"] == "rule")
    short = {name: _brief(name) for name in names}
    brief = {n: s if [*short.values()].count(s) == 1 else n for n, s in short.items()}
    return {
        **told,
        "seen": {
            inputs: {**part, "trails": {brief[r]: t for r, t in part["trails"].items()}}
            for inputs, part in seen.items()
        },
        "curves": [{**p, "name": brief.get(str(p["name"]), p["name"])} for p in curves],
        "vulnerability": [
            {**v, "rule": brief[str(v["rule"])]} for v in told.get("vulnerability") or ()
        ],
        "slopes": [{**v, "rule": brief[str(v["rule"])]} for v in told.get("slopes") or ()],
    }


def _brief(name: str) -> str:
    kind, bracket, inside = name.partition("(")
    surrogate = re.match(r"surrogate=(\w+)\((?:\w+=)?([^,)]*)", inside)
    return f"{kind}, {surrogate[1]}({surrogate[2]})" if bracket and surrogate else name


def _notes(diagnosis: Mapping[str, Any], key: str) -> Section | None:
    notes = [str(note) for note in diagnosis.get("notes") or ()]
    if not notes:
        return None
    table = Table("What was not measured, and why", ("Note",), tuple((Cell(n),) for n in notes))
    said = counted(len(notes), "remark")
    return Section(key, "What the diagnosis left out", (table,), f"{said} of the diagnosis.")


def _floats(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return np.frombuffer(base64.b64decode(value["f8"]), "<f8").tolist()
    return [float(v) for v in value]
