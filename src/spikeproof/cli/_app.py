"""The commands and their flags. Rooms are imported inside, so that ``--help`` needs no torch."""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from spikeproof import __version__
from spikeproof.errors import Refusal

app = typer.Typer(
    help="Train, shrink, attack and explain robust spiking neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="What data sets are here, and whether they are whole.")
app.add_typer(data, name="data", no_args_is_help=True)

INTERRUPTED = 130  # what the shell expects after Ctrl-C, and what typer makes of it

Recipe = Annotated[Path, typer.Argument(help="A TOML recipe, such as recipes/digits-tet.toml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[section.key=value]...", help="Laid over the recipe.")
]
Root = Annotated[
    Path,
    typer.Option("--data-dir", envvar="SPIKEPROOF_DATA", help="The folder of the data sets."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU if there is.")]
Name = Annotated[str, typer.Argument(help="A named set, or the path of files with --format.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run was ended.")]
Format = Annotated[
    str, typer.Option(help="idx, cifar-binary, cifar-python, npz, folder, nmnist or aedat.")
]


def main() -> None:
    """Runs the command line; what a user can mend costs one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no encoding lacks what is printed
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="spikeproof")
    except (Refusal, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        if isinstance(error, RuntimeError) and not _lacks_memory(error):
            raise
        sys.stderr.write(f"spikeproof: {sentence(error)}\n")
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            sys.stderr.write("spikeproof: stopped; what is finished is kept (see --resume)\n")
        raise


def sentence(error: Exception) -> str:
    """Returns what is wrong and what to do about it, on one line."""
    if isinstance(error, MemoryError | RuntimeError):
        return "there is not enough memory; take fewer samples (data.limit) or a smaller batch"
    if isinstance(error, OSError) and error.strerror:
        what = error.filename or "the disk"
        remedies = {
            errno.ENOENT: "it must exist; check the path",
            errno.EACCES: "it must be readable and writable for you; change its permissions",
            errno.ENOSPC: "files are written whole or not at all; free some space and run again",
            errno.EISDIR: "a file is needed; name one inside it",
            errno.ELOOP: "links must lead to something else than themselves; mend the link",
            errno.ENOTDIR: "a folder is needed; check the path",
        }
        remedy = remedies.get(error.errno or 0, "the system must allow it; check path and disk")
        return f"{what}: {error.strerror.lower()}; {remedy}"
    return " ".join(str(error).split())


def _lacks_memory(error: RuntimeError) -> bool:
    words = ("alloc", "not enough memory", "out of memory")  # torch has no class of its own
    return any(word in str(error).lower() for word in words)


def _folder(out: str | None) -> Path | None:
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


def _version(value: bool | None) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = None,
) -> None:
    """Train, shrink, attack and explain robust spiking neural networks."""


@app.command()
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The run folder; runs/NAME of the recipe by default."),
    ] = None,
    resume: Resume = False,
    data_dir: Root = Path("data"),
    device: Device = "auto",
) -> None:
    """Train the network of a recipe, and test the weights that validation selected."""
    from spikeproof.catalogue import read_recipe
    from spikeproof.cli._train import train as run

    run(
        read_recipe(recipe, overrides or ()),
        _folder(out) or Path("runs") / recipe.stem,
        data_dir,
        device=device,
        resume=resume,
    )


@app.command()
def evaluate(  # noqa: PLR0913  the flags of one command
    model: Annotated[str, typer.Argument(help="A run folder, or package.module:factory.")],
    data: Annotated[
        str, typer.Option(help="A named set; by default the one that the run was trained on.")
    ] = "",
    threat: Annotated[
        str, typer.Option(help="linf:8/255, l2:0.5, l1:12, l0:10, flips:200, retiming:b0:1000 ...")
    ] = "linf:8/255",
    suite: Annotated[
        str, typer.Option(help="smoke, standard, full, ensemble19, or a TOML file of your own.")
    ] = "smoke",
    limit: Annotated[int, typer.Option(min=0, help="Samples, classes in proportion; 0: all.")] = 0,
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The record's folder; MODEL/evaluation by default."),
    ] = None,
    transfer: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Another network whose gradient is followed; repeat."),
    ] = None,
    control: Annotated[
        str, typer.Option(metavar="MODEL", help="A network without a defence, which must fall.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was ended.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Samples at a time; changes no result.")] = 64,
    shard: Annotated[str, typer.Option(help="k/n: this process takes one part of n.")] = "1/1",
    seed: int = 0,
    data_dir: Root = Path("data"),
    device: Device = "auto",
) -> None:
    """Attack a network with a suite, judge every claim, tell what stands and what is doubtful."""
    from spikeproof.cli._evaluate import Target, evaluate_command, shard_of
    from spikeproof.evaluate import Conditions

    folder = Path(model) if Path(model).is_dir() else Path("runs") / model.replace(":", ".")
    evaluate_command(
        Target(model, data, data_dir, device, tuple(transfer or ()), control),
        threat,
        suite,
        _folder(out) or folder / "evaluation",
        Conditions(limit, seed, batch, shard_of(shard), resume),
    )


@app.command()
def compare(
    records: Annotated[list[Path], typer.Argument(help="Records, or the folders that hold them.")],
) -> None:
    """Compare networks sample by sample: exact McNemar tests with Holm's correction."""
    from spikeproof.cli._evaluate import compare_command

    compare_command(records)


@app.command()
def demo(
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The run folder; the next free runs/demo by default."),
    ] = None,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Train a spiking network on real handwriting that comes along: no download, minutes."""
    from spikeproof.cli._demo import demo as run

    run(_folder(out), device=device, resume=resume)


@app.command()
def doctor(data_dir: Root = Path("data")) -> None:
    """Tell what works on this machine: torch, compiler, GPU, extras, data."""
    from spikeproof.cli._doctor import doctor as run

    run(data_dir)


@data.command("list")
def list_sets(data_dir: Root = Path("data")) -> None:
    """List the named sets and what is found of each."""
    from spikeproof.cli._data import list_sets as run

    run(data_dir)


@data.command("check")
def check_set(name: Name, data_dir: Root = Path("data"), format: Format = "") -> None:
    """Read every sample of a set, compare counts and checksums; exit code 2 if it is damaged."""
    from spikeproof.cli._data import check_set as run

    run(name, data_dir, format)


@data.command("show")
def show_set(
    name: Name,
    data_dir: Root = Path("data"),
    format: Format = "",
    count: Annotated[int, typer.Option(min=1, max=12, help="How many samples.")] = 4,
) -> None:
    """Draw the first training samples in the terminal."""
    from spikeproof.cli._data import show_set as run

    run(name, data_dir, format, count)
