"""A recipe: one file that says what is trained on what, and how."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spikeproof.catalogue._read import from_values
from spikeproof.catalogue._toml import read_toml
from spikeproof.compress import Calibration, Pruning
from spikeproof.data import Augmentation, Dataset, load, read_path, subset
from spikeproof.errors import Refusal, short, within
from spikeproof.models import Architecture, Setting, build
from spikeproof.records import read_json
from spikeproof.seeding import generator
from spikeproof.spiking import (
    IF,
    LIF,
    Direct,
    Encoder,
    Frames,
    Gates,
    SpikingNetwork,
    drawing_from,
)
from spikeproof.training import SPEC, CrossEntropy, Objective, Penalty, Plan, load_weights

LONGEST, DEEPEST = 1024, 8  # path of a base, and bases in a row


@dataclass(frozen=True)
class Source:
    """Which samples: a named set, or files of the user's in one of the formats that are read."""

    name: str = "digits"
    path: str = ""
    format: str = ""
    validation: float = 0.1  # share of the training samples that selects the model
    limit: int = 0  # training samples used, 0 for all

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise Refusal(
                f"data.validation is {short(self.validation)}; it is the share of the training "
                "samples that selects the model, between 0 and 1; take 0.1"
            )
        if self.limit < 0:
            raise Refusal(f"data.limit is {short(self.limit)}; it counts samples; take 0 for all")
        if bool(self.path) != bool(self.format):
            raise Refusal(
                f"data.path is {short(self.path)} and data.format {short(self.format)}; files of "
                "your own need both; add the missing one or give data.name alone"
            )


@dataclass(frozen=True)
class Network:
    """Time and neurons around an architecture; ``analog`` makes the ANN twin."""

    T: int = 4
    neuron: LIF = field(default_factory=IF)
    encoder: Encoder = field(default_factory=Direct)
    analog: bool = False
    gates: Gates | None = None

    def __post_init__(self) -> None:
        within("network.T", self.T, 1, 10_000)


@dataclass(frozen=True)
class Stage:
    """One training of several, each of which begins with the network that the last one left.

    What a stage leaves out is the recipe's own.
    """

    name: str
    analog: bool = False
    epochs: int = 0  # 0: the recipe's
    lr: float = 0.0  # 0: the recipe's
    objective: Objective | None = None
    prune: Pruning | None = None
    fresh: bool = False  # begin with new weights under the masks of the network before

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", self.name):
            raise Refusal(
                f"a stage is called {short(self.name)}; its name is that of a folder, of up to 40 "
                "small letters, digits and hyphens; rename it"
            )
        within("epochs of a stage", self.epochs, 0, 1_000_000_000)
        within("lr of a stage", self.lr, 0, 1e6)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained network."""

    model: Architecture
    train: Plan
    data: Source = field(default_factory=Source)
    network: Network = field(default_factory=Network)
    objective: Objective = field(default_factory=CrossEntropy)
    penalties: tuple[Penalty, ...] = ()
    augment: Augmentation = field(default_factory=Augmentation)
    prune: Pruning | None = None
    calibration: Calibration = field(default_factory=Calibration)
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise Refusal(f"stages are {short(names)}; each has a name of its own; rename one")
        spiking = [stage.name for stage in self.stages if not stage.analog]
        if spiking != names[len(names) - len(spiking) :]:
            raise Refusal(
                f"stage {spiking[0]} is spiking and one after it is analog; analog networks become "
                "spiking ones and not the other way; put the analog stages first"
            )
        for prune in (self.prune, *(stage.prune for stage in self.stages)):
            if prune is not None and prune.moves and self.train.average:
                raise Refusal(
                    f"prune.kind is {prune.kind} and train.average {self.train.average}; a mean of "
                    "weights under masks that move has entries outside the last one; leave one out"
                )


@dataclass(frozen=True)
class Input:
    """What a trained network expects, and the digest of the samples that it learned from."""

    channels: int
    size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    def __post_init__(self) -> None:
        Setting(self.channels, self.size, len(self.classes), mean=self.mean, std=self.std)


@dataclass(frozen=True)
class Spec:
    """From what a checkpoint's network is built; written beside the weights."""

    recipe: Recipe
    input: Input
    version: Literal[1] = 1


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a TOML recipe, lays it over its ``base`` and ``section.key=value`` over both."""
    values = _with_bases(path, ())
    for override in overrides:
        _lay(values, override)
    return from_values(Recipe, values, str(path))


def read_data(recipe: Recipe, root: Path) -> Dataset:
    """Returns the recipe's samples; named sets are looked for under ``root``."""
    source, seed = recipe.data, recipe.train.seed
    if source.path:
        dataset = read_path(
            source.format,
            Path(source.path),
            steps=recipe.network.T,
            validation=source.validation,
            seed=seed,
        )
        if not isinstance(dataset, Dataset):
            raise Refusal(
                f"{source.path} holds a {type(dataset).__name__}; training needs labelled samples "
                "in parts for training and test; give the folder of the whole set"
            )
    else:
        dataset = load(
            source.name, root, steps=recipe.network.T, validation=source.validation, seed=seed
        )
    if source.limit:
        dataset = replace(dataset, train=subset(dataset.train, source.limit, seed=seed))
    return dataset


def specify(recipe: Recipe, dataset: Dataset) -> Spec:
    """Returns how to build the network that the recipe means for this data set."""
    channels, height, width = dataset.shape[-3:]
    if height != width:
        raise Refusal(
            f"{dataset.name} has samples of {height}x{width}; networks take square ones; "
            "crop or pad them first"
        )
    if dataset.events:
        if not isinstance(recipe.network.encoder, Direct | Frames):
            raise Refusal(
                f"network.encoder is {recipe.network.encoder} and {dataset.name} holds event "
                "frames; they are spikes already; leave network.encoder out"
            )
        recipe = replace(recipe, network=replace(recipe.network, encoder=Frames()))
    elif recipe.network.encoder.events:
        raise Refusal(
            f"network.encoder is {recipe.network.encoder} and {dataset.name} holds images; "
            "it takes event frames; leave network.encoder out or choose an encoder of images"
        )
    mean: tuple[float, ...] = (0.0,)  # a count of events has a natural zero
    std: tuple[float, ...] = (1.0,)
    if not dataset.events:
        mean, std = dataset.mean, tuple(s or 1.0 for s in dataset.std)
    digest = dataset.train.digest()
    return Spec(recipe, Input(channels, height, dataset.classes, mean, std, digest))


def construct(spec: Spec, seed: int = 0) -> SpikingNetwork:
    """Returns the network of a spec with fresh weights."""
    network = spec.recipe.network
    setting = Setting(
        channels=spec.input.channels,
        size=spec.input.size,
        classes=len(spec.input.classes),
        T=network.T,
        neuron=None if network.analog else network.neuron,
        encoder=network.encoder,
        gates=network.gates,
        mean=spec.input.mean,
        std=spec.input.std,
    )
    return build(spec.recipe.model, setting, seed)


def read_spec(folder: Path) -> Spec:
    """Reads the spec of a run folder."""
    return from_values(Spec, read_json(folder / SPEC), str(folder / SPEC))


def load_network(folder: Path) -> SpikingNetwork:
    """Returns the trained network of a run folder, in evaluation mode; gates draw fresh noise."""
    spec = read_spec(folder)
    model = construct(spec)
    load_weights(folder, model)
    if spec.recipe.network.gates is not None:
        model = drawing_from(model, generator(spec.recipe.train.seed, "deployed"))
    return model.eval()


def _under(values: Any, key: str) -> Any:
    """Returns a section, made where it is missing, or a table of a list, counted from 0."""
    if isinstance(values, list) and key.isdecimal() and len(key) < 4 and int(key) < len(values):
        return values[int(key)]
    return values.setdefault(key, {}) if isinstance(values, dict) else None


def _with_bases(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Returns what a file says, laid over what its base says."""
    values = read_toml(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or len(base) > LONGEST or not (path.parent / base).is_file():
        raise Refusal(
            f"{path} has base = {short(base)}; a base is the path of another recipe, seen from "
            "this one; correct it or write the whole recipe"
        )
    seen = (*above, path.resolve())
    if (path.parent / base).resolve() in seen or len(seen) > DEEPEST:
        raise Refusal(
            f"{path} has base = {short(base)}, which is based on it or the {DEEPEST}th in a row; "
            "bases end soon; write one of them whole"
        )
    return _over(_with_bases(path.parent / base, seen), values)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Returns the tables of both; one of another kind takes the other's place."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and old.get("kind", value.get("kind")) == value.get("kind", old.get("kind"))
        ):
            out[key] = _over(old, value)
        else:
            out[key] = value
    return out


def _lay(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or not override.isprintable():
        raise Refusal(
            f"{short(override)} is not an override; it has the form section.key=value on one "
            "line; write for example train.epochs=5"
        )
    for place, key in enumerate(keys[:-1], 2):
        values = _under(values, key)
        if not isinstance(values, dict if place == len(keys) else dict | list):
            raise Refusal(
                f"{short(override)} goes through {key}, which holds a value; only sections have "
                "keys; name the section that has it"
            )
    try:
        values[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[keys[-1]] = text.strip()  # on a command line, text needs no quotes of its own
    except (ValueError, RecursionError):
        raise Refusal(
            f"{short(override)} has a value too long or too deep; "
            "numbers are short and lists are flat; write it so"
        ) from None
