"""Every recipe says what it costs and reaches, parses, and passes an epoch on a slice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from spikeproof.catalogue import from_values, read_recipe, to_values
from spikeproof.cli._train import train

ROOT = Path(__file__).resolve().parents[1]
RECIPES = [*sorted((ROOT / "recipes").glob("*.toml")), ROOT / "src/spikeproof/cli/demo.toml"]
EMBEDDED = ("digits", "event-digits")
SLICE = ["train.epochs=1", "train.warmup=0", "data.limit=64", "data.validation=0.02"]


def by_name(recipes):
    return pytest.mark.parametrize("path", recipes, ids=lambda p: p.stem)


@by_name(RECIPES)
def test_the_header_states_command_cost_and_figure(path):
    header = path.read_text().split("\n\n")[0]
    for word in ("command", "cost", "expected"):
        assert re.search(rf"^#   {word} +\S", header, re.MULTILINE), word
    if path.parent.name == "recipes":
        assert f"spikeproof train recipes/{path.name}" in header


@by_name(RECIPES)
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
