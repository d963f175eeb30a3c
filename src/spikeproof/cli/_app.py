"""The commands and their flags. Rooms are imported inside, so that ``--help`` needs no torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from spikeproof import __version__
from spikeproof.cli._examples import CODES, examples
from spikeproof.cli._flags import (
    Beside,
    Data,
    Device,
    Evaluation,
    Format,
    Json,
    Model,
    Name,
    Out,
    Overrides,
    Quiet,
    Recipe,
    Resume,
    Root,
    Run,
    folder_of,
    folder_out,
)
from spikeproof.errors import Refusal

app = typer.Typer(
    help="Train, shrink, attack and explain robust spiking neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=CODES,
    rich_markup_mode=None,  # rich's boxes take as long to load as all else that --help needs
)
data = typer.Typer(
    help="What data sets are here, and whether they are whole.", rich_markup_mode=None
)
app.add_typer(data, name="data", no_args_is_help=True)


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


@app.command(epilog=examples("train"))
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Run = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
    data_dir: Root = Path("data"),
    device: Device = "auto",
) -> None:
    """Train the network of a recipe, and test the weights that validation selected."""
    from spikeproof.catalogue import read_recipe
    from spikeproof.cli._terminal import say, voice
    from spikeproof.cli._train import train as run

    record = run(
        read_recipe(recipe, overrides or ()),
        folder_out(out) or Path("runs") / recipe.stem,
        data_dir,
        device=device,
        resume=resume,
        console=voice(as_json=as_json, quiet=quiet),
    )
    if as_json:
        say(record)


@app.command(epilog=examples("evaluate"))
def evaluate(  # noqa: PLR0913  the flags of one command
    model: Annotated[str, typer.Argument(help="A run folder, a packed file, or a factory.")],
    data: Data = "",
    threat: Annotated[
        str, typer.Option(help="linf:8/255, l2:0.5, l1:12, l0:10, flips:200, retiming:b0:1000 ...")
    ] = "linf:8/255",
    suite: Annotated[
        str, typer.Option(help="smoke, standard, full, ensemble19, or a TOML file of your own.")
    ] = "smoke",
    limit: Annotated[int, typer.Option(min=0, help="Samples, classes in proportion; 0: all.")] = 0,
    out: Out = None,
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
    as_json: Json = False,
    quiet: Quiet = False,
    data_dir: Root = Path("data"),
    device: Device = "auto",
) -> None:
    """Attack a network with a suite, judge every claim, tell what stands and what is doubtful."""
    from spikeproof.cli._evaluate import Target, evaluate_command, shard_of
    from spikeproof.cli._terminal import say, voice
    from spikeproof.evaluate import Conditions, summary

    record = evaluate_command(
        Target(model, data, data_dir, device, tuple(transfer or ()), control),
        threat,
        suite,
        folder_out(out) or folder_of(model) / "evaluation",
        Conditions(limit, seed, batch, shard_of(shard), resume),
        voice(as_json=as_json, quiet=quiet),
    )
    if as_json:
        say({**summary(record), "finding": asdict(record.finding)})


@app.command(epilog=examples("diagnose"))
def diagnose(  # noqa: PLR0913  the flags of one command
    model: Model,
    data: Data = "",
    threat: Annotated[
        str, typer.Option(help="What attacked samples may change, such as linf:8/255.")
    ] = "linf:8/255",
    rule: Annotated[
        list[str] | None,
        typer.Option(help="A gradient: own, assg, bptr, cba ... or a surrogate's kind; repeat."),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="trail, rasters, vulnerability, landscape, domains, curves; repeat."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Samples, classes in proportion; 0: all.")] = 64,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was ended.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Samples at a time; changes no result.")] = 64,
    seed: int = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    data_dir: Root = Path("data"),
    device: Device = "auto",
) -> None:
    """Look inside a network under attack: sparsity trail, vulnerability, landscape, curves."""
    from spikeproof.cli._diagnose import diagnose_command
    from spikeproof.cli._evaluate import Target
    from spikeproof.cli._terminal import say, voice
    from spikeproof.evaluate import Conditions, overview

    found = diagnose_command(
        Target(model, data, data_dir, device),
        threat,
        rule or (),
        part or (),
        folder_out(out) or folder_of(model) / "diagnosis",
        Conditions(limit, seed, batch, resume=resume),
        voice(as_json=as_json, quiet=quiet),
    )
    if as_json:
        say(overview(found))


@app.command(epilog=examples("certify"))
def certify(  # noqa: PLR0913  the flags of one command
    model: Model,
    data: Data = "",
    threat: Annotated[
        str, typer.Option(help="linf:0.01, l0:2, flips:4; l2:0.1 of smoothing, l1:0.1 of rates.")
    ] = "linf:0.01",
    method: Annotated[
        str, typer.Option(help="ibp, crown, exact, smoothing or rate_coding.")
    ] = "ibp",
    sigma: Annotated[float, typer.Option(help="The deviation of the noise of smoothing.")] = 0.25,
    draws: Annotated[int, typer.Option(min=1, help="Of noise a sample; 100 more choose.")] = 1000,
    alpha: Annotated[float, typer.Option(help="The odds that a vote's certificate errs.")] = 0.001,
    limit: Annotated[int, typer.Option(min=0, help="Samples, classes in proportion; 0: all.")] = 0,
    out: Out = None,
    against: Annotated[
        str, typer.Option(metavar="RECORD", help="An evaluation that must agree, by sample.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was ended.")] = False,
    seed: int = 0,
    quiet: Quiet = False,
    data_dir: Root = Path("data"),
    device: Device = "auto",
) -> None:
    """Prove which answers no attack changes: lower bounds beside the upper bounds of evaluate."""
    from spikeproof.cli._certify import certify_command, method_of
    from spikeproof.cli._evaluate import Target
    from spikeproof.cli._terminal import voice
    from spikeproof.evaluate import Conditions

    certify_command(
        Target(model, data, data_dir, device),
        threat,
        method_of(method, sigma, draws, alpha),
        folder_out(out) or folder_of(model) / "certificate",
        Conditions(limit, seed, resume=resume),
        Path(against) if against else None,
        voice(quiet=quiet),
    )


@app.command(epilog=examples("compare"))
def compare(
    records: Annotated[list[Path], typer.Argument(help="Records, or the folders that hold them.")],
    as_json: Json = False,
) -> None:
    """Compare networks sample by sample: exact McNemar tests with Holm's correction."""
    from spikeproof.cli._evaluate import compare_command
    from spikeproof.cli._terminal import say, voice

    pairs = compare_command(records, voice(as_json=as_json))
    if as_json:
        say([asdict(pair) for pair in pairs])


@app.command(epilog=examples("report"))
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, or records.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("report.html"),
    leaderboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rank the records of this folder instead."),
    ] = None,
    claim: Annotated[
        float | None, typer.Option(help="The robust accuracy that its authors state, as 0.45.")
    ] = None,
    data_dir: Root = Path("data"),
) -> None:
    """Write records as one page that opens from the disk and needs no network."""
    from spikeproof.cli._report import leaderboard_command, report_command

    if leaderboard is not None and (runs or claim is not None):
        raise Refusal(
            "both runs and --leaderboard were given, or --claim with it; a page is of the one or "
            "the other; leave one away"
        )
    if leaderboard is not None:
        leaderboard_command(leaderboard, out)
    else:
        report_command(runs or [], out, data_dir, claimed=claim)


@app.command(epilog=examples("submit"))
def submit(
    model: Model,
    file: Annotated[Path, typer.Argument(help="An npz archive with x_adv, and indices of a part.")],
    record: Evaluation,
    data: Data = "",
    out: Beside = None,
    as_json: Json = False,
    data_dir: Root = Path("data"),
) -> None:
    """Judge adversarials that somebody else found against the record of an evaluation."""
    from spikeproof.cli._evaluate import Target
    from spikeproof.cli._submit import submit_command
    from spikeproof.cli._terminal import say, voice

    told = submit_command(Target(model, data, data_dir), file, record, out, voice(as_json=as_json))
    if as_json:
        say(told)


@app.command(epilog=examples("replay"))
def replay(
    model: Model,
    file: Annotated[Path, typer.Argument(help="What was exported: net.spkp, net.onnx or net.nir.")],
    record: Evaluation,
    data: Data = "",
    out: Beside = None,
    as_json: Json = False,
    data_dir: Root = Path("data"),
) -> None:
    """Show what broke a network to the file that was exported of it, and count what differs."""
    from spikeproof.cli._evaluate import Target
    from spikeproof.cli._replay import replay_command
    from spikeproof.cli._terminal import say, voice

    told = replay_command(Target(model, data, data_dir), file, record, out, voice(as_json=as_json))
    if as_json:
        say(told)


@app.command(epilog=examples("export"))
def export(
    model: Model,
    file: Annotated[Path, typer.Argument(help="The file to write, such as net.spkp.")],
    to: Annotated[str, typer.Option(help="packed, onnx or nir; by default as FILE ends.")] = "",
    shape: Annotated[
        str, typer.Option(metavar="CxHxW", help="Of an image; a run folder knows its own.")
    ] = "",
    precision: Annotated[str, typer.Option(help="Of weights: fp32, fp16 or int8.")] = "fp32",
) -> None:
    """Write a network as a file that other programs run, and tell where its bytes are."""
    from spikeproof.cli._export import export as run

    run(model, to, file, shape=shape, precision=precision)


@app.command("run", epilog=examples("run"))
def run_packed(
    file: Annotated[Path, typer.Argument(help="A packed network, such as net.spkp.")],
    data: Annotated[str, typer.Option(help="A named set, or an npz archive with x_test, y_test.")],
    limit: Annotated[int, typer.Option(min=0, help="The first samples; 0: all.")] = 0,
    execution: Annotated[str, typer.Option(help="auto, weights or events; same bits.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="0: one a core.")] = 0,
    against: Annotated[
        str, typer.Option(metavar="MODEL", help="The network it was made of; logits are compared.")
    ] = "",
    as_json: Json = False,
    data_dir: Root = Path("data"),
) -> None:
    """Run a packed network without torch: accuracy, operations, bytes."""
    from spikeproof.cli._run import Job, run

    run(Job(file, data, data_dir, limit, execution, threads, against), as_json=as_json)


@app.command(epilog=examples("energy"))
def energy(
    model: Annotated[str, typer.Argument(help="A run folder, a packed file, or a factory.")],
    data: Data = "",
    limit: Annotated[int, typer.Option(min=0, help="Test samples; 0: all.")] = 256,
    table: Annotated[str, typer.Option(help="fp32, fp16, int32 or int8.")] = "fp32",
    as_json: Json = False,
    data_dir: Root = Path("data"),
) -> None:
    """Count spikes, operations and energy layer by layer."""
    from spikeproof.cli._energy import energy as run
    from spikeproof.cli._evaluate import Target

    run(Target(model, data, data_dir), limit=limit, table=table, as_json=as_json)


@app.command(epilog=examples("demo"))
def demo(
    out: Annotated[str, typer.Option(metavar="PATH", help="The folder.")] = "runs/demo",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train, attack, explain and pack three networks on embedded handwriting, and write a page."""
    from spikeproof.cli._demo import demo as run

    run(folder_out(out) or Path(out), device=device, quiet=quiet)


@app.command(epilog=examples("doctor"))
def doctor(data_dir: Root = Path("data")) -> None:
    """Tell what works on this machine: torch, compiler, GPU, extras, data."""
    from spikeproof.cli._doctor import doctor as run

    run(data_dir)


@data.command("list", epilog=examples("data list"))
def list_sets(data_dir: Root = Path("data")) -> None:
    """List the named sets and what is found of each."""
    from spikeproof.cli._data import list_sets as run

    run(data_dir)


@data.command("check", epilog=examples("data check"))
def check_set(name: Name, data_dir: Root = Path("data"), format: Format = "") -> None:
    """Read every sample of a set, compare counts and checksums; exit code 2 if it is damaged."""
    from spikeproof.cli._data import check_set as run

    run(name, data_dir, format)


@data.command("show", epilog=examples("data show"))
def show_set(
    name: Name,
    data_dir: Root = Path("data"),
    format: Format = "",
    count: Annotated[int, typer.Option(min=1, max=12, help="How many samples.")] = 4,
) -> None:
    """Draw the first training samples in the terminal."""
    from spikeproof.cli._data import show_set as run

    run(name, data_dir, format, count)
