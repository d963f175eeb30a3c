"""Records to a page, at the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from spikeproof.cli._terminal import terminal
from spikeproof.errors import Refusal
from spikeproof.report import (
    Evaluation,
    Look,
    Originals,
    leaderboard,
    make_page,
    read_runs,
    write_page,
)

if TYPE_CHECKING:
    from spikeproof.data import Dataset

MODEL = "model.safetensors"
ABOVE = 3  # folders over a record where its network may lie


def report_command(
    paths: Sequence[Path],
    out: Path,
    data_dir: Path,
    *,
    claimed: float | None = None,
    console: Console | None = None,
) -> None:
    """Writes the page of these runs to ``out``."""
    console = console or terminal()
    _check_out(out)
    if claimed is not None and not 0 <= claimed <= 1:
        raise Refusal(f"the claim is {claimed}; an accuracy is a share; write 0.45 for 45 %")
    runs = read_runs(paths)
    page = make_page(runs, originals_in(data_dir, paths), claimed)
    write_page(out, page)
    console.print(page.verdict, markup=False)
    console.print(f"page: {out} ({out.stat().st_size / 1e6:.1f} MB)", markup=False)


def leaderboard_command(folder: Path, out: Path, console: Console | None = None) -> None:
    """Writes the ranking of a folder's records to ``out``."""
    console = console or terminal()
    _check_out(out)
    entries = leaderboard(folder, out)
    for entry in entries:
        rank = "-" if entry.rank is None else str(entry.rank)
        said = f"{rank:>3} {entry.name}: {entry.worst:.1%} of {entry.clean:.1%}, {entry.status}"
        console.print(said, markup=False)
    console.print(f"page: {out}; fields of RobustBench: {out.with_suffix('.json')}", markup=False)


def originals_in(data_dir: Path, runs: Sequence[Path] = ()) -> Look:
    """Returns what finds clean inputs in the data sets, and answers in the run folders."""

    def look(found: Evaluation, numbers: Sequence[int], x_adv: Any) -> Originals | None:
        import torch

        from spikeproof.catalogue import load_network, read_data, read_spec

        folder = _network_of(found, runs)
        try:
            data = read_data(read_spec(folder).recipe, data_dir) if folder else None
            if data is None or data.name != found.values["data"]["name"]:
                data = _named(found, data_dir)
            x, y = data.test.batch(torch.tensor(numbers))
            said = None
            if folder:
                model = load_network(folder)
                with torch.no_grad():
                    said = tuple(model(torch.from_numpy(x_adv)).argmax(1).tolist())
        except (Refusal, OSError, IndexError):
            return None  # the page says that they were not found
        return Originals(x.numpy(), tuple(y.tolist()), said, tuple(data.classes))

    return look


def _network_of(found: Evaluation, runs: Sequence[Path]) -> Path | None:
    """Returns the folder of the weights that were attacked: above the record, or in a run."""
    from spikeproof.attacks import fingerprint
    from spikeproof.catalogue import load_network

    above = found.path.resolve().parents[:ABOVE]
    for folder in dict.fromkeys((*above, *(run for run in runs if run.is_dir()))):
        if not (folder / MODEL).is_file():
            continue
        try:
            if fingerprint(load_network(folder)) == found.values["model"]["weights_sha256"]:
                return folder
        except (Refusal, OSError, KeyError):
            continue
    return None


def _named(found: Evaluation, data_dir: Path) -> Dataset:
    from spikeproof.data import load

    values = found.values["data"]
    steps = values["shape"][0] if len(values["shape"]) == 4 else 4
    return load(values["name"], data_dir, steps=steps)


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise Refusal(f"{out} is a folder; a page is a file; name one, such as {out}/report.html")
    if out.suffix not in (".html", ".htm"):
        raise Refusal(f"{out} is no name of a page; it ends in .html; write {out}.html")
