"""A folder of records as a ranking: doubtful results are shown and not ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikeproof.errors import Refusal
from spikeproof.records import read_json, replace_file, write_json
from spikeproof.report._blocks import BLANK, Cell, Note, Page, Section, Table
from spikeproof.report._curves import claim, left_by
from spikeproof.report._page import render
from spikeproof.report._read import DAMAGE, Evaluation, read_evaluation
from spikeproof.report._words import (
    TONES,
    counted,
    interval,
    number,
    number_cell,
    share_cell,
    size_of,
    threat_words,
)
from spikeproof.statistics import wilson

UNKNOWN = "doubts not recorded"
NONE = "N/A"  # as RobustBench writes what is not known


@dataclass(frozen=True)
class Entry:
    """One network under one threat."""

    name: str
    file: str
    data: str
    threat: Mapping[str, Any]
    suite: str
    samples: int
    clean: float
    usual: float | None  # what the usual attack leaves
    worst: float
    interval: tuple[float, float]
    status: str
    model: str
    parameters: int | None
    rank: int | None = None

    @property
    def board(self) -> tuple[str, str, str]:
        """What it can be ranked within: the same data and threat, under the same suite."""
        return self.data, threat_words(self.threat), self.suite

    @property
    def reliable(self) -> bool:
        """Whether it is ranked."""
        return self.status in ("flagged", "no evidence of masking")


def leaderboard(folder: Path, out: Path) -> tuple[Entry, ...]:
    """Writes the ranking of a folder's records to ``out``, and beside it as JSON.

    The JSON has the fields of RobustBench, one entry per network.
    """
    entries = ranked(_entries(folder))
    if not entries:
        raise Refusal(
            f"{folder} holds no evaluation; a ranking is made of their records; evaluate first, or "
            "name another folder"
        )
    page = _page(entries, out.with_suffix(".json").name)
    text = render("page.html", page.title, page.figures, page=page)
    write_json(
        out.with_suffix(".json"),
        {"schema": 1, "kind": "leaderboard", "entries": [robustbench(e) for e in entries]},
    )
    replace_file(out, lambda part: part.write_text(text, encoding="utf-8"))
    return entries


def ranked(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns entries board by board, the best first; unreliable ones last, without a rank."""
    boards: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        boards[entry.board].append(entry)
    found: list[Entry] = []
    for _, board in sorted(boards.items()):
        board.sort(key=lambda e: (not e.reliable, -e.worst, -e.clean, e.name))
        better = [e.worst for e in board if e.reliable]
        found += [_with_rank(e, better) for e in board]
    return tuple(found)


def robustbench(entry: Entry) -> dict[str, Any]:
    """Returns an entry in the fields of RobustBench's ``model_info``.

    ``autoattack_acc`` is the worst case of the suite, which holds more than AutoAttack.
    """
    size = size_of(entry.threat)
    return {
        "link": None,
        "name": entry.name,
        "authors": NONE,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": entry.data,
        "venue": NONE,
        "architecture": entry.model,
        "eps": NONE if size is None else number(size, 6),
        "clean_acc": _hundredths(entry.clean),
        "reported": NONE if entry.usual is None else _hundredths(entry.usual),
        "autoattack_acc": _hundredths(entry.worst),
        "unreliable": not entry.reliable,
        "footnote": (
            f"{entry.suite}, {counted(entry.samples, 'sample')}, {threat_words(entry.threat)}; "
            f"95 % interval {interval(*entry.interval)}; {entry.status}."
        ),
    }


def _entries(folder: Path) -> list[Entry]:
    if not folder.is_dir():
        raise Refusal(f"{folder} is no folder; a ranking is made of one with records; name it")
    found = []
    for path in sorted(folder.rglob("*.json")):
        inner = path.relative_to(folder).parts
        if any(part.startswith((".", "shard-")) or part in ("blocks", "curves") for part in inner):
            continue
        values = read_json(path)
        name = path.parent.name if path.name == "record.json" else path.stem
        if values.get("kind") == "evaluation":
            if path.name == "record.json" and path.parent.name == "evaluation":
                name = path.parent.parent.name
            found.append(_evaluated(read_evaluation(path, values, name), "/".join(inner)))
        elif values.get("kind") == "peers":
            found.append(_beside_peers(values, name.removeprefix("peers-"), path, "/".join(inner)))
    return found


def _evaluated(found: Evaluation, file: str) -> Entry:
    usual, model = claim(found), found.values.get("model") or {}
    return Entry(
        name=found.name,
        file=file,
        data=str(found.values["data"].get("name", "")),
        threat=found.threat,
        suite=str(found.values["suite"]),
        samples=found.samples,
        clean=found.accuracy,
        usual=None if usual is None else left_by(found, usual),
        worst=found.worst,
        interval=found.interval,
        status=found.status,
        model=str(model.get("name", NONE)),
        parameters=model.get("parameters"),
    )


def _beside_peers(values: Mapping[str, Any], name: str, path: Path, file: str) -> Entry:
    """Returns an entry of a comparison with other packages, which says nothing of doubts."""
    try:
        count = int(values["n"])
        worst = float(values["standard"]["standing"])
        low, high = wilson(round(worst * count), count)
        recipe = values["recipe"]
        return Entry(
            name=name,
            file=file,
            data=str(recipe["data"]["name"]),
            threat=dict(values["threat"]),
            suite="standard-images",
            samples=count,
            clean=float(values["clean"]),
            usual=None,
            worst=worst,
            interval=(low, high),
            status=UNKNOWN,
            model=str(recipe["model"]["kind"]),
            parameters=None,
        )
    except DAMAGE as error:
        raise Refusal(
            f"{path} is damaged ({type(error).__name__}: {error}); a record is read as it was "
            "written; take an unchanged copy"
        ) from None


def _with_rank(entry: Entry, better: Sequence[float]) -> Entry:
    rank = 1 + sum(worst > entry.worst for worst in better) if entry.reliable else None
    return replace(entry, rank=rank)


def _page(entries: Sequence[Entry], export: str) -> Page:
    boards: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        boards.setdefault(entry.board, []).append(entry)
    sections = [
        Section(f"board-{n}", ", ".join(names), (_table(", ".join(names), board),))
        for n, (names, board) in enumerate(boards.items(), 1)
    ]
    about = Note(
        "The rank is that of the worst case that the suite found, among reliable results. Those "
        "that are unreliable, or say nothing of doubts, stand below without a rank. The same lies "
        f"beside this page in the fields of RobustBench, as {export}."
    )
    count = sum(entry.rank is not None for entry in entries)
    return Page(
        "Leaderboard",
        f"{count} of {counted(len(entries), 'evaluation')} can be ranked.",
        "",
        "",
        (Section("about", "", (about,)), *sections),
    )


def _table(caption: str, board: Sequence[Entry]) -> Table:
    rows = tuple(
        (
            BLANK if e.rank is None else number_cell(e.rank),
            Cell(e.name),
            share_cell(e.clean),
            BLANK if e.usual is None else share_cell(e.usual),
            share_cell(e.worst),
            Cell(interval(*e.interval)),
            Cell(e.status, tone=TONES.get(e.status, "quiet")),
            number_cell(e.samples),
            number_cell(e.parameters),
            Cell(e.file),
        )
        for e in board
    )
    heads = (
        "Rank", "Network", "Clean", "Usual attack", "Worst case", "95 % interval", "Finding",
        "Samples", "Parameters", "Record",
    )  # fmt: skip
    return Table(caption, heads, rows, filtered=len(rows) > 5)


def _hundredths(share: float) -> str:
    return f"{100 * share:.2f}"
