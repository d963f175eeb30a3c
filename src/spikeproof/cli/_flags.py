"""Arguments and flags that several commands share, and the folders that they name."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import typer

from spikeproof.errors import Refusal

Recipe = Annotated[Path, typer.Argument(help="A TOML recipe, such as recipes/digits-tet.toml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[section.key=value]...", help="Laid over the recipe.")
]
Model = Annotated[str, typer.Argument(help="A run folder, or package.module:factory.")]
Root = Annotated[
    Path,
    typer.Option("--data-dir", envvar="SPIKEPROOF_DATA", help="The folder of the data sets."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU if there is.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON record, all else to stderr.")]
Run = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="The run folder; runs/NAME of the recipe by default."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results, no progress.")]
Out = Annotated[
    str | None, typer.Option(metavar="PATH", help="The record's folder; one in MODEL by default.")
]
Data = Annotated[
    str, typer.Option(help="A named set; by default the one that the run was trained on.")
]
Name = Annotated[str, typer.Argument(help="A named set, or the path of files with --format.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run was ended.")]
Format = Annotated[
    str, typer.Option(help="idx, cifar-binary, cifar-python, npz, folder, nmnist or aedat.")
]
Beside = Annotated[
    Path | None, typer.Option(metavar="PATH", help="The file to write; beside the record.")
]
Evaluation = Annotated[Path, typer.Option(help="The evaluation's folder, or its record.")]


def folder_out(out: str | None) -> Path | None:
    """Returns the folder that --out names, if it was given and can be one."""
    if out is None:
        return None
    path = Path(out)
    if not out.strip():
        raise Refusal("--out is empty; it is the path of a folder; name one or leave --out away")
    if path.is_symlink() and not path.exists():
        raise Refusal(
            f"{path} is a link that leads to itself or to nothing; a run needs a folder; "
            "mend the link or choose another --out"
        )
    return path


def folder_of(model: str) -> Path:
    """Returns the run folder, or a place for what is found out about a file or a factory."""
    path = Path(model)
    if path.is_dir():
        return path
    return Path("runs") / (path.stem if path.is_file() else model.replace(":", "."))


def file_out(out: Path | None, usual: Path) -> Path:
    """Returns the new file that --out names, or the first free one of the usual name."""
    if out is None:
        further = (usual.with_name(f"{usual.stem}-{n}{usual.suffix}") for n in count(2))
        return next(path for path in chain([usual], further) if not os.path.lexists(path))
    if os.path.lexists(out):
        raise Refusal(f"{out} exists; records are never overwritten; name another --out")
    return out
