"""Evaluation at the terminal: a model, its samples, a suite, and what is left of it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from torch import nn

from spikeproof.catalogue import load_network, read_data, read_spec, read_suite, read_threat
from spikeproof.cli._terminal import tell, terminal
from spikeproof.cli._train import pick_device
from spikeproof.data import Dataset, load
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Comparison,
    Conditions,
    Packed,
    Progress,
    Record,
    Suite,
    compare,
    evaluate,
    read_record,
)
from spikeproof.interop import Adopted, adopt_or_lend, foreign
from spikeproof.ir import SUFFIX
from spikeproof.spiking import SpikingNetwork, keep_large_blocks

SHOWN = 5  # reasons for doubt
PROBED, SAMPLES = 256, 64  # on which an adopted network is compared, and in a batch


@dataclass(frozen=True)
class Target:
    """What is attacked, as the command line names it."""

    model: str
    data: str = ""
    data_dir: Path = Path("data")
    device: str = "auto"
    transfer: tuple[str, ...] = ()  # other models, whose gradients are followed
    control: str = ""  # a model without a defence


def evaluate_command(
    target: Target,
    threat: str,
    suite: str,
    out: Path,
    conditions: Conditions,
    console: Console | None = None,
) -> Record:
    """Returns the record of the evaluation, which is also written to ``out``."""
    console = console or terminal()
    keep_large_blocks()
    model, dataset = load_target(target, console)
    met = read_threat(threat)
    chosen: str | Suite = read_suite(Path(suite)) if suite.endswith(".toml") else suite
    device, sources = pick_device(target.device), load_sources(target.transfer)
    control = load_model(target.control) if target.control else None
    console.print(
        f"{dataset.name}: {conditions.limit or len(dataset.test)} of {len(dataset.test)} test "
        f"samples; {named(model)} under {threat}; suite {suite}"
    )
    sources = {name: adopted(net, dataset, console) for name, net in sources.items()}
    control = control and adopted(control, dataset, console)
    with watched(console, "evaluation", _told) as watch:
        record = evaluate(
            model.to(device),
            dataset,
            met,
            chosen,
            out=out,
            conditions=conditions,
            transfer={name: network.to(device) for name, network in sources.items()},
            control=control and control.to(device),
            watch=watch,
        )
    report(console, record, out)
    return record


def load_target(target: Target, console: Console | None) -> tuple[nn.Module, Dataset]:
    """Returns a run folder's network and samples, or what a factory of the user's makes.

    In the network of another framework the neurons are ours.
    """
    folder = Path(target.model)
    if _is_folder(target.model) and not target.data:
        return load_network(folder), read_data(read_spec(folder).recipe, target.data_dir)
    if not (_is_folder(target.model) or target.data) and _is_factory(target.model):
        raise Refusal(
            f"{target.model} says nothing of its data; a factory makes a model only; give --data"
        )
    if _is_packed(target.model) and not target.data:
        raise Refusal(f"{target.model} says nothing of its data; attacks need samples; give --data")
    model = load_model(target.model)
    steps = 4
    if isinstance(model, SpikingNetwork):
        steps = model.encode.T
    elif isinstance(model, Packed):
        steps = model.engine.graph.input.steps
    dataset = _named(target, steps)
    return adopted(model, dataset, console), dataset


def adopted(model: nn.Module, dataset: Dataset, console: Console | None) -> nn.Module:
    """Returns the network with our neurons in the place of another framework's, and says so."""
    if not foreign(model):
        return model
    some = torch.arange(min(PROBED, len(dataset.test))).split(SAMPLES)
    network = adopt_or_lend(model, [dataset.test.batch(rows)[0] for rows in some])
    if console is not None:
        console.print(f"{type(model).__name__}: {network.adoption}")
    return network


def named(model: nn.Module) -> str:
    """Returns what a network is called, as its author called it."""
    return type(model.net if isinstance(model, Adopted) else model).__name__


def load_model(name: str) -> nn.Module:
    """Returns the network of a run folder or a packed file, or what a factory makes."""
    if _is_folder(name):
        return load_network(Path(name))
    if _is_packed(name):
        return Packed(Path(name))
    if not _is_factory(name):
        raise Refusal(
            f"{name!r} is no run folder, no packed file and no package.module:factory; name the "
            "folder that training wrote, or a function of yours that returns a module"
        )
    module, _, factory = name.partition(":")
    made = _imported(module, factory)()
    if not isinstance(made, nn.Module):
        raise Refusal(
            f"{name} returns a {type(made).__name__}; it must return a torch.nn.Module; "
            "wrap the model in one"
        )
    return made


def load_sources(names: Sequence[str]) -> dict[str, nn.Module]:
    """Returns other networks by the name of their folder or factory."""
    sources: dict[str, nn.Module] = {}
    for name in names:
        path = Path(name)
        short = path.resolve().name if _is_folder(name) else name.replace(":", ".")
        if short in sources:
            raise Refusal(
                f"two transfer sources are called {short}; a step is named after the folder of its "
                "source; rename one of the folders"
            )
        sources[short] = load_model(name)
    return sources


def compare_command(
    paths: Sequence[Path], console: Console | None = None
) -> tuple[Comparison, ...]:
    """Prints every pair of records compared, and returns them."""
    console = console or terminal()
    found = {str(p): read_record(p / "record.json" if p.is_dir() else p) for p in paths}
    pairs = compare(found)
    for pair in pairs:
        console.print(
            f"{pair.first} {pair.robust[0]:.2%} and {pair.second} {pair.robust[1]:.2%} worst case: "
            f"{pair.only_first} samples stand in the first alone, {pair.only_second} in the "
            f"second; exact McNemar p = {pair.p:.3g}, {pair.p_holm:.3g} with Holm's correction"
        )
        if pair.parity.verdict != "pass":
            console.print(f"  no ranking follows (C30): {pair.parity.detail}")
    return pairs


def report(console: Console, record: Record, out: Path) -> None:
    """Prints what every step did, and as the last lines worst case, doubts and where it is."""
    count = len(record.clean)
    standing = list(record.clean)
    for step in record.steps:
        if step.skipped:
            console.print(f"  {step.id}: not run, {step.skipped}")
            continue
        if not step.counts:
            left = 1 - sum(step.success) / max(1, sum(step.attacked))
            console.print(f"  {step.id}: {left:.1%} of those right withstand it (a curve)")
            continue
        standing = [a and not b for a, b in zip(standing, step.success, strict=True)]
        console.print(
            f"  {step.id}: broke {sum(step.success)} of {sum(step.attacked)}; "
            f"{sum(standing) / count:.2%} stand"
        )
    low, high = record.interval
    tell(console, f"clean accuracy {record.clean_accuracy:.2%} on {count} samples")
    tell(
        console,
        f"worst case {record.robust_accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})",
    )
    tell(console, f"doubts: {record.finding.status}")
    for reason in record.finding.reasons[:SHOWN]:
        tell(console, f"  {reason}")
    where = out if record.shard[1] == 1 else out / f"shard-{record.shard[0]}-of-{record.shard[1]}"
    tell(console, f"record: {where / 'record.json'}")


def shard_of(text: str) -> tuple[int, int]:
    """Returns the part and the number of parts that ``k/n`` names."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit()):
        raise Refusal(f"the shard is {text!r}; it has the form k/n; write for example 1/4")
    return int(part), int(parts)


def _is_folder(name: str) -> bool:
    return bool(name.strip()) and Path(name).is_dir()  # an empty path would be the one we are in


def _is_packed(name: str) -> bool:
    return name.endswith(SUFFIX)


def _is_factory(name: str) -> bool:
    module, colon, factory = name.partition(":")
    return bool(module and colon) and factory.isidentifier()


def _named(target: Target, steps: int) -> Dataset:
    return load(target.data, target.data_dir, steps=steps, validation=0.1, seed=0)


def _imported(module: str, factory: str) -> Callable[[], object]:
    # as `python -m` does: the user's own module may lie where the command is typed
    if os.getcwd() not in sys.path:  # noqa: PTH109  sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        made = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise Refusal(
            f"{module}:{factory} cannot be imported ({error}); the module must be importable from "
            "here and define that function; check both names"
        ) from None
    if not callable(made):
        raise Refusal(f"{module}:{factory} is no function; name one that returns the model")
    try:
        inspect.signature(made).bind()
    except (TypeError, ValueError) as error:  # of the call itself; inside, it is the factory's
        raise Refusal(
            f"{module}:{factory} cannot be called without arguments ({error}); a factory takes "
            "none; write a function that gives them and returns the model"
        ) from None
    return made


@contextmanager
def watched(
    console: Console, task: str, told: Callable[[Progress, str], tuple[str, str]]
) -> Iterator[Callable[[Progress], None]]:
    """Shows a bar, with what ``told`` makes of the progress and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
    with Bar(*columns, console=console, transient=True) as bar:
        row = bar.add_task(task, pace="")

        def watch(p: Progress) -> None:
            minutes, seconds = divmod(round(p.left), 60)
            name, pace = told(p, f"{minutes}:{seconds:02d}")
            bar.update(row, description=name, completed=p.done, total=p.of, pace=pace)

        yield watch


def _told(p: Progress, left: str) -> tuple[str, str]:
    pace = f"{p.standing} stand, {p.rate:,.1f} samples/s, {left} left in it"
    return f"{p.number}/{p.steps} {p.step}", pace
