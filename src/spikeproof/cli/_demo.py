"""The demonstration: real handwriting that comes along, a spiking network, minutes."""

from __future__ import annotations

import itertools
from importlib import resources
from pathlib import Path

import torch

from spikeproof.catalogue import load_network, read_data, read_recipe
from spikeproof.cli._terminal import terminal
from spikeproof.cli._train import train
from spikeproof.spiking import recorded


def demo(out: Path | None, *, device: str = "auto", resume: bool = False) -> None:
    """Trains the shipped recipe and tells what came out."""
    out = out or _folder(resume=resume)
    console = terminal()
    with resources.as_file(resources.files("spikeproof.cli") / "demo.toml") as path:
        recipe = read_recipe(path)
    train(recipe, out, Path(), device=device, resume=resume, console=console)
    network, test = load_network(out), read_data(recipe, Path()).test
    x, y = test.batch(torch.arange(len(test)))
    with torch.no_grad(), recorded(network) as layers:
        right = network(x).argmax(1).eq(y)
    spikes = sum(layer.spikes.mean().item() for layer in layers.values())
    neurons = sum(layer.neurons for layer in layers.values())
    console.print(
        f"{neurons:,} neurons fired {spikes:,.0f} spikes per image on average "
        f"({spikes / neurons / network.encode.T:.1%} of the steps); "
        f"{int((~right).sum())} of {len(y)} test images are read wrongly"
    )
    for name, layer in layers.items():
        console.print(f"  {name}: {layer.neurons:,} neurons, rate {layer.rate.mean():.1%}")
    console.print(f"go on with: spikeproof train RECIPE.toml --out DIR; this run is {out}")


def _folder(*, resume: bool) -> Path:
    """Returns the folder of the last demo to go on with, or else the next free one."""
    taken = list(itertools.takewhile(Path.exists, map(_numbered, itertools.count(1))))
    return taken[-1] if resume and taken else _numbered(len(taken) + 1)


def _numbered(number: int) -> Path:
    return Path("runs/demo" if number == 1 else f"runs/demo-{number}")
