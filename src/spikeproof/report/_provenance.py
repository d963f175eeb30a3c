"""Where the numbers come from: what was asked, of what, on which machine, at which cost."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spikeproof.report._blocks import Cell, Download, Note, Section, Table, present
from spikeproof.report._read import Evaluation, Run
from spikeproof.report._words import counted, seconds, threat_text

CARRIED = 6_000_000  # bytes of packed records in one page


class Carrier:
    """Packs records into a page, as many as it can carry."""

    def __init__(self, most: int = CARRIED) -> None:
        self.left = most

    def download(self, path: Path, id: str, name: str) -> Download | Note:
        """Returns a record as it lies on the disk, or says that the page is full."""
        content = path.read_bytes()
        packed = base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()
        if len(packed) > self.left:
            return Note("This page holds as many records as it can carry; this one is left out.")
        self.left -= len(packed)
        file = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "record"
        return Download(id, f"{file}.json", packed, f"{len(content) / 1000:,.0f} kB")


def provenance_section(found: Evaluation, run: Run, key: str, carrier: Carrier) -> Section:
    """Returns what one needs to tell the evaluation from others and to make it again."""
    rows = [*_asked(found), *_spent(found), *_machine(found.values.get("environment") or {})]
    table = Table(
        "Provenance", ("What", "Value"), tuple((Cell(name), Cell(text)) for name, text in rows)
    )
    return Section(
        f"{key}-provenance",
        "Provenance",
        present([table, _recipe(run), carrier.download(found.path, f"{key}-record", found.name)]),
        "Everything on this page is computed from the record below, which holds what every attack "
        "did to every sample.",
    )


def _asked(found: Evaluation) -> Iterator[tuple[str, str]]:
    values, data = found.values, found.values["data"]
    model = values.get("model") or {}
    yield "Command", command(found)
    yield "Network", f"{model.get('name', '')}, {counted(model.get('parameters', 0), 'parameter')}"
    yield "SHA-256 of the weights", str(model.get("weights_sha256", ""))
    yield "Data", f"{data.get('name', '')}, samples of shape {data.get('shape')}"
    yield "SHA-256 of inputs", str(data.get("tensor_sha256", ""))
    yield "SHA-256 of labels", str(data.get("label_sha256", ""))
    yield "Seed", str(values.get("seed"))
    yield "SHA-256 of the record", found.sha256
    if values.get("control"):
        yield "SHA-256 of the undefended network", str(values["control"])


def command(found: Evaluation) -> str:
    """Returns the command line that asks for such an evaluation again."""
    suite = str(found.values["suite"]).partition("-")[0]
    return (
        f"spikeproof evaluate MODEL --data {found.values['data'].get('name', '')} "
        f"--threat {threat_text(found.threat)} --suite {suite} --limit {found.samples} "
        f"--seed {found.values.get('seed')}"
    )


def _spent(found: Evaluation) -> Iterator[tuple[str, str]]:
    forwards = sum(step.forwards for step in found.steps)
    backwards = sum(step.backwards for step in found.steps)
    yield "Forward passes", f"{forwards:,} ({forwards / found.samples:,.0f} a sample)"
    yield "Backward passes", f"{backwards:,} ({backwards / found.samples:,.0f} a sample)"
    times = found.values.get("times") or {}
    parts = times.get("seconds_of_steps")
    if isinstance(parts, Mapping):
        yield "Time of all attacks", seconds(sum(float(part) for part in parts.values()))
    if times.get("started"):
        yield "Measured", f"{times['started']} to {times.get('ended', '')}"


def _machine(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names = ("processor", "device", "cores", "threads", "system", "python")
    for name in names:
        if environment.get(name) is not None:
            yield name.capitalize(), str(environment[name])
    packages = environment.get("packages") or {}
    if packages:
        yield "Packages", ", ".join(f"{n} {v}" for n, v in sorted(packages.items()) if v)


def _recipe(run: Run) -> Table | None:
    if run.training is None:
        return None
    rows = [(k, v) for k, v in _flat(run.training.get("recipe") or {}) if v not in ("", None)]
    rows += [(f"result.{k}", v) for k, v in _flat(run.training.get("result") or {})]
    return Table(
        "How the network was trained",
        ("Setting", "Value"),
        tuple((Cell(name), Cell(str(value))) for name, value in rows),
        folded="How the network was trained",
    )


def _flat(values: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        inner = f"{key}.{name}" if key else str(name)
        if isinstance(value, Mapping):
            yield from _flat(value, inner)
        else:
            yield inner, value
