"""Every recipe says what it costs and reaches, parses, and passes an epoch on a slice."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from spikeproof.catalogue import (
    construct,
    from_values,
    read_data,
    read_recipe,
    specify,
    to_values,
)
from spikeproof.cli._train import train
from spikeproof.data import subset
from spikeproof.training import fit, measure, penalised

ROOT = Path(__file__).resolve().parents[1]
DEMO = sorted((ROOT / "src" / "spikeproof" / "cli" / "demo").glob("*.toml"))
RECIPES = [*sorted((ROOT / "recipes").glob("*.toml")), *DEMO]
PAPERS = sorted((ROOT / "recipes" / "papers").glob("*.toml"))
EMBEDDED = ("digits", "event-digits")
SLICE = ["train.epochs=1", "train.warmup=0", "data.limit=64", "data.validation=0.02"]


def by_name(recipes):
    return pytest.mark.parametrize("path", recipes, ids=lambda p: p.stem)


@by_name([*RECIPES, *PAPERS])
def test_the_header_states_command_cost_and_figure(path):
    header = path.read_text().split("\n\n")[0]
    for word in ("command", "cost", "expected"):
        assert re.search(rf"^#   {word} +\S", header, re.MULTILINE), word
    if "recipes" in path.parts:
        assert f"spikeproof train {path.relative_to(ROOT)}" in header


@by_name([*RECIPES, *PAPERS])
def test_a_recipe_is_a_value_that_survives_the_round_trip(path):
    recipe = read_recipe(path)
    assert from_values(type(recipe), to_values(recipe), "test") == recipe


@by_name(RECIPES)
def test_a_recipe_passes_an_epoch_on_a_slice(path, tmp_path, request):
    recipe = read_recipe(path, SLICE)
    root = tmp_path
    if recipe.data.name not in EMBEDDED:
        root = request.getfixturevalue("real_data")
    record = train(recipe, tmp_path / "run", root, device="cpu", console=Console(quiet=True))
    assert record["result"]["steps"] >= 1


@pytest.mark.slow
@by_name(PAPERS)
def test_a_paper_trains_on_a_slice_at_its_own_size(path, tmp_path, real_data):
    """All numbers are those of the file but the epochs and the samples, which are four."""
    recipe = read_recipe(path, ["train.epochs=1", "train.batch=4"])
    dataset = read_data(recipe, real_data)
    few, seen = subset(dataset.train, 4), subset(dataset.validation, 2)
    model = construct(specify(recipe, dataset), 0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    outcome = fit(
        model,
        few,
        penalised(recipe.objective, recipe.penalties),
        recipe.train,
        tmp_path,
        validate=lambda network: measure(network, seen),
        augment=recipe.augment,
    )
    assert outcome.steps == 1
    moved = [bool((a != b).any()) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("recipe", ["digits-natural", "fashion-mnist-cnn", "cifar10-cnn"])
def test_methods_on_the_command_line_are_those_of_the_shipped_files(recipe):
    """The table of methods of the page, laid over any recipe; on digits it is the shipped file."""
    base, methods = ROOT / "recipes" / f"{recipe}.toml", _methods()
    assert len(methods) == 10
    for name, overrides in methods.items():
        made = read_recipe(base, overrides)
        shipped = ROOT / "recipes" / f"digits-{name}.toml"
        if recipe == "digits-natural":
            assert made == read_recipe(shipped), name


def _methods():
    page = (ROOT / "docs" / "recipes.md").read_text().split("## Methods")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([a-z-]+) \| (?:`(.*)`|none) \|$", page, re.MULTILINE)
    return {name: shlex.split(overrides) for name, overrides in rows}
