"""Data sets at the terminal: listed, checked, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.style import Style
from rich.table import Table
from rich.text import Text
from torch import Tensor

from spikeproof.cli._terminal import terminal
from spikeproof.data import Dataset, Events, Split, check, inventory, load, read_path
from spikeproof.errors import Refusal


def list_sets(root: Path) -> None:
    """Prints the named sets with what is found of each."""
    table = Table("set", "training", "test", "where", "remark")
    for row in inventory(root):
        train, test = (f"{n:,}" for n in row.found) if row.found else ("-", "-")
        where = str(row.where or "embedded") if row.present else "absent"
        table.add_row(row.name, train, test, where, row.problem or row.note or "")
    terminal().print(table)


def check_set(name: str, root: Path, format: str) -> None:
    """Reads a set whole and prints counts and checksums; refuses one that is damaged."""
    console = terminal()
    if format:
        console.print(f"{name}: {_described(read_path(format, Path(name)))}; it was read whole")
        return
    report = check(name, root)
    for checksum in report.checksums:
        console.print(f"{checksum.file}: {checksum.verdict} ({checksum.found})")
    if report.row.found:
        train, test = report.row.found
        console.print(f"{name}: {train:,} training and {test:,} test samples were read")
    if report.row.note:
        console.print(report.row.note)
    wrong = [c.file for c in report.checksums if c.verdict == "differs"]
    if report.verdict == "damaged":
        raise Refusal(
            report.row.problem
            or f"{', '.join(wrong)} of {name} differ from what was published; "
            "checksums must agree; fetch the files anew"
        )
    console.print(f"{name}: {report.verdict}")


def show_set(name: str, root: Path, format: str, count: int) -> None:
    """Draws training samples with two pixels a character."""
    dataset = read_path(format, Path(name)) if format else load(name, root)
    if not isinstance(dataset, Dataset):
        raise Refusal(
            f"{name} holds {_described(dataset)}; whole sets are drawn; name the set's folder"
        )
    console = terminal()
    x, y = dataset.train.batch(torch.arange(min(count, len(dataset.train))))
    for sample, label in zip(x, y.tolist(), strict=True):
        console.print(f"{dataset.name}: {dataset.classes[label]}")
        console.print(_picture(sample.mean(0) if dataset.events else sample))


def _described(content: Dataset | Split | Events | np.ndarray) -> str:
    match content:
        case Dataset():
            parts = (content.train, content.validation, content.test)
            sizes = "/".join(f"{len(part):,}" for part in parts)
            kinds = len(content.classes)
            return f"a set of {sizes} samples (train/validation/test) in {kinds} classes"
        case Split():
            return f"{len(content):,} samples of shape {tuple(content.x.shape[1:])}"
        case Events():
            return f"{len(content.t):,} events on {content.height}x{content.width} pixels"
        case _:
            return f"an array of shape {content.shape}"


def _picture(image: Tensor) -> Text:
    """Draws (C, H, W): colour, grey, or off/on events in blue and red."""
    peak = image.max().clamp_min(1e-9)
    if len(image) == 2:
        off, on = image / peak
        image = torch.stack([on, torch.zeros_like(on), off])
    elif len(image) == 1:
        image = image.expand(3, -1, -1)
    levels = (image.clamp(0, 1) * 255).to(torch.uint8).tolist()
    text = Text()
    height, width = image.shape[1:]
    for row in range(0, height, 2):
        for column in range(width):
            upper, lower = (
                "#" + "".join(f"{plane[r][column]:02x}" for plane in levels)
                for r in (row, min(row + 1, height - 1))
            )
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    return text
