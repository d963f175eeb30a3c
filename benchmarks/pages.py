"""Draws the figures of docs/performance.md from the records: python -m benchmarks.pages.

Tables stand between two comments that name them. The curves of cost go into docs/linear-cost.svg;
they need altair and vl-convert-python, of the dependency group `pages`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._timing import RESULTS, Values

from spikeproof import records

DOCS = Path(__file__).parent.parent / "docs"
PAGE, CURVES = DOCS / "performance.md", DOCS / "linear-cost.svg"


def neurons(record: Values) -> str:
    """Returns what a layer takes, in units of the stream and of the fastest peers."""
    rows = [
        ["T", "ours / stream", "eager peer / ours", "compiled peer / ours", "as it comes / ours"]
    ]
    kinds = ("eager_peer", "compiled_peer_with_large_blocks_kept", "compiled_peer_as_it_comes")
    for steps, length in record["lengths"].items():
        found = length["verdict"]
        peers = (found[f"fastest_{kind}"] for kind in kinds)
        cells = [f"{peer['times_ours']} ({peer['name']})" for peer in peers]
        rows.append([steps, str(found["ours_times_stream"]), *cells])
    return table(rows)


def rules(record: Values) -> str:
    """Returns what each gradient rule takes, in units of the stream."""
    lengths = record["lengths"]
    rows = [["rule", *(f"T = {steps}" for steps in lengths)]]
    each = {
        steps: {row["name"]: row["times_stream"] for row in length["rows"]["rules"]}
        for steps, length in lengths.items()
    }
    for name in next(iter(each.values())):
        if name != "stream":
            shown = name.removeprefix("ours").strip() or "arctangent"
            rows.append([shown, *(str(found[name]) for found in each.values())])
    return table(rows)


def steps(record: Values) -> str:
    """Returns what a step takes, in units of the convolutions alone and of the fastest peers."""
    titles = {
        "ours / the fastest eager": "eager peer / ours",
        "ours / the fastest compiled": "compiled peer / ours",
        "ours / the fastest as it comes": "peer as it comes / ours",
    }
    ratios = record["ratios"]
    if not any(name.endswith("the fastest as it comes") for name in ratios):
        titles.pop("ours / the fastest as it comes")
    rows = [["step", "batch", "ours / floor", *titles.values(), "ASSG / ours"]]
    for name, comparison in record["comparisons"].items():
        own = (ratios.get(f"{name}: {kind}") for kind in titles)
        cells = [ratios.get(f"{name}: ours / floor"), *(v and 1 / v for v in own)]
        cells.append(ratios.get(f"{name}: ASSG / ours"))
        shown = ["not measured" if v is None else f"{v:.2f}" for v in cells]
        rows.append([name, str(comparison["batch"]), *shown])
    return table(rows)


def memory(record: Values) -> str:
    """Returns what a training step holds at its peak."""
    shown = {"ours": "ours", "ours, recomputed": "recomputed", "spikingjelly": "SpikingJelly"}
    names = [name for name in shown if any(name in row["bytes"] for row in record["rows"])]
    rows = [["T", "batch", *(f"{shown[name]}, MB" for name in names), "ours / SpikingJelly"]]
    for row in record["rows"]:
        held = [f"{row['bytes'][n] / 1e6:.0f}" if n in row["bytes"] else "-" for n in names]
        ratio = row.get("ours / spikingjelly")
        last = "not measured" if ratio is None else f"{ratio:.2f}"
        rows.append([str(row["T"]), str(row["batch"]), *held, last])
    return table(rows)


def plain(record: Values) -> str:
    """Returns the ratios of a record as they are named there."""
    return table([["ratio", "value"], *([k, f"{v:.3f}"] for k, v in record["ratios"].items())])


def table(rows: list[list[str]]) -> str:
    """Returns rows as Markdown, the first as the head."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, tuple[str, Callable[[Values], str]]] = {
    "neurons": ("neurons-cpu", neurons),
    "rules": ("neurons-cpu", rules),
    "steps": ("steps-cpu", steps),
    "memory": ("memory-cpu", memory),
    "judge": ("judge-speed-fashion-mnist-natural-cpu", plain),
    "alone": ("judge-speed-alone-fashion-mnist-natural-cpu", plain),
    "linear": ("linear-cost-cpu", plain),
}


def parts() -> dict[str, str]:
    """Returns the tables of the records that there are."""
    paths = {name: RESULTS / f"{stem}.json" for name, (stem, _) in PARTS.items()}
    return {n: PARTS[n][1](records.read_json(p)) for n, p in paths.items() if p.exists()}


def filled(page: str, texts: dict[str, str]) -> str:
    """Returns the page with every table that its comments ask for."""
    for name, text in texts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda found, t=text: f"{found[1]}{t}\n{found[2]}", page, flags=re.S)
    return page


def draw(record: Values, path: Path) -> None:
    """Draws seconds against size on logarithmic axes, a panel for each knob."""
    import altair

    points = [
        {"step": name.split()[0], "knob": name.split()[-1], "size": size, "seconds": seconds}
        for name, curve in record["curves"].items()
        for size, seconds in measured(curve)
    ]
    log = altair.Scale(type="log", nice=False)
    line = altair.Chart(altair.Data(values=points)).mark_line(point=True)
    chart = line.encode(
        altair.X("size:Q", scale=log, title=None),
        altair.Y("seconds:Q", scale=log, title="seconds, median"),
        altair.Color("step:N", title=None),
        altair.Column("knob:N", title=None),
    )
    chart.properties(width=180, height=180).resolve_scale(x="independent").save(path)


def measured(curve: Values) -> list[tuple[Any, float]]:
    """Returns sizes and medians of a curve."""
    rows = curve.get("points", [])
    return [
        (next(v for k, v in row.items() if k in KNOBS), row["seconds"]["median"]) for row in rows
    ]


KNOBS = ("T", "batch", "width")

if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), parts()))
    costs = RESULTS / "linear-cost-cpu.json"
    if costs.exists():
        draw(records.read_json(costs), CURVES)
