"""The demonstration: three small networks on embedded handwriting, from training to a page."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from spikeproof.catalogue import read_recipe, to_values
from spikeproof.cli._diagnose import diagnose_command
from spikeproof.cli._energy import measured
from spikeproof.cli._evaluate import Target, evaluate_command
from spikeproof.cli._export import export
from spikeproof.cli._report import report_command
from spikeproof.cli._run import Job, run
from spikeproof.cli._terminal import voice
from spikeproof.cli._train import train
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions
from spikeproof.records import LOCK, read_json, replace_file, write_json
from spikeproof.report import ENERGY, PACKED

NETWORKS = {
    "natural": "trained as usual",
    "robust": "trained against attacks, with the penalty SR",
    "sparse": "trained against attacks, a tenth of its weights kept, then made to spike",
}
SEEN = "robust"  # the one that is looked into
THREAT, ATTACKED, INSIDE = "linf:0.1", 64, 16  # samples that are attacked, and looked into
PAGE, COMMANDS, RECORD = "report.html", "commands.sh", "record.json"


@dataclass(frozen=True)
class Stage:
    """Where the demonstration plays: its folder, who listens, and what it is computed on."""

    folder: Path
    console: Console  # the story
    aside: Console  # what the commands say themselves
    device: str

    def at(self, name: str) -> Path:
        """Returns where something lies."""
        return self.folder / name


def demo(out: Path, *, device: str = "auto", quiet: bool = False) -> None:
    """Trains, attacks, explains and packs three networks, and writes the page about them.

    Every step is a command. What is finished in the folder is not done again. A quiet one tells
    the story and nothing beside it.
    """
    stage = Stage(out, voice(), voice(as_json=True, quiet=quiet), device)
    _unpack(out)
    stage.console.print(
        f"three small spiking networks learn to read handwriting, in {out}; Ctrl-C stops, and the "
        "same command goes on"
    )
    for name, purpose in NETWORKS.items():
        _trained(stage, name, purpose)
        _attacked(stage, name)
    _seen(stage)
    _counted(stage)
    _packed(stage)
    report_command([out / name for name in NETWORKS], out / PAGE, Path(), console=stage.console)
    stage.console.print(f"the commands that this was made of: {out / COMMANDS}")


def commands(out: Path) -> list[str]:
    """Returns the commands that do the same, one after the other."""
    runs = [out / name for name in NETWORKS]
    suite = ("--suite", "smoke", "--threat", THREAT, "--limit", ATTACKED)
    lines = []
    for one in runs:
        lines += [_line("train", f"{one}.toml", "--out", one), _line("evaluate", one, *suite)]
    lines.append(_line("diagnose", out / SEEN, "--threat", THREAT, "--limit", INSIDE))
    for one in runs:
        packed = f"{one}.spkp"
        lines += [
            _line("energy", one, "--json", into=one / ENERGY),
            _line("export", one, packed),
            _line("run", packed, "--data", "digits", "--json", into=one / PACKED),
        ]
    return [*lines, _line("report", *runs, "-o", out / PAGE)]


def _line(*words: object, into: Path | None = None) -> str:
    line = shlex.join(["spikeproof", *map(str, words)])
    return f"{line} > {shlex.quote(str(into))}" if into else line


def _unpack(out: Path) -> None:
    """Lays recipes and commands into the folder, where they can be read, changed and repeated."""
    if out.exists() and any(out.iterdir()) and not (out / COMMANDS).exists():
        raise Refusal(
            f"{out} holds other things; the demonstration writes into a folder of its own and "
            "keeps what it finds there; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    texts = {COMMANDS: "\n".join([*commands(out), ""])}
    for name in NETWORKS:
        recipe = resources.files("spikeproof.cli") / "demo" / f"{name}.toml"
        texts[recipe.name] = recipe.read_text(encoding="utf-8")
    for name, text in texts.items():
        if (out / name).exists():  # and may have been changed
            continue
        replace_file(out / name, partial(Path.write_text, data=text, encoding="utf-8"))


def _trained(stage: Stage, name: str, purpose: str) -> None:
    folder, recipe = stage.at(name), read_recipe(stage.at(f"{name}.toml"))
    record: dict[str, Any] = {}
    if (folder / RECORD).exists():
        record = read_json(folder / RECORD)
    if record.get("recipe") != to_values(recipe):
        begun = any(folder.rglob(LOCK))
        record = train(
            recipe, folder, Path(), device=stage.device, resume=begun, console=stage.aside
        )
    right, count = record["result"]["test"]["accuracy"], record["data"]["test"]
    stage.console.print(f"{name}: {purpose}; reads {right:.2%} of {count} test images")


def _attacked(stage: Stage, name: str) -> None:
    folder = stage.at(name)
    record = evaluate_command(
        Target(str(folder), device=stage.device),
        THREAT,
        "smoke",
        folder / "evaluation",
        Conditions(ATTACKED, resume=(folder / "evaluation" / LOCK).exists()),
        stage.aside,
    )
    low, high = record.interval
    stage.console.print(
        f"  attacked within {THREAT} it still reads {record.robust_accuracy:.2%} of "
        f"{len(record.clean)} (95 % interval {low:.2%} to {high:.2%}); {record.finding.status}"
    )


def _seen(stage: Stage) -> None:
    out = stage.at(SEEN) / "diagnosis"
    conditions = Conditions(INSIDE, resume=(out / LOCK).exists())
    target = Target(str(stage.at(SEEN)), device=stage.device)
    found = diagnose_command(target, THREAT, (), (), out, conditions, stage.aside)
    layers: dict[str, list[float]] = {}
    for raster in found.rasters:
        layers.setdefault(raster.layer, []).append(raster.parted)
    turned = (f"{fmean(shares):.1%} in {name}" for name, shares in layers.items())
    stage.console.print(f"inside {SEEN}, an attack turns spikes: {', '.join(turned)}")


def _counted(stage: Stage) -> None:
    said = []
    for name in NETWORKS:
        _, record = measured(Target(str(stage.at(name))), limit=256, table="fp32")
        write_json(stage.at(name) / ENERGY, record)
        said.append(f"{name} {sum(record['picojoules'].values()) / 1e6:.3g} uJ")
    stage.console.print(f"arithmetic of an image: {', '.join(said)}")


def _packed(stage: Stage) -> None:
    said = []
    for name in NETWORKS:
        file = stage.at(f"{name}.spkp")
        export(str(stage.at(name)), "packed", file, shape="", precision="fp32", console=stage.aside)
        record = run(Job(file, "digits"), as_json=False, console=stage.aside)
        write_json(stage.at(name) / PACKED, record)
        said.append(f"{name} {record['accuracy']:.2%} in {record['bytes']:,} bytes")
    stage.console.print(f"packed, and run without torch: {', '.join(said)}")
