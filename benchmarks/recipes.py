"""Trains recipes and keeps their records: benchmarks/recipes.py DATA recipes/NAME.toml ..."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from spikeproof.catalogue import read_recipe
from spikeproof.cli._train import train
from spikeproof.records import write_json

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    data, *recipes = map(Path, sys.argv[1:])
    for path in recipes:
        with tempfile.TemporaryDirectory() as folder:
            record = train(read_recipe(path), Path(folder) / "run", data)
        write_json(RESULTS / f"recipe-{path.stem}.json", record)
        accuracy = record["result"]["test"]["accuracy"]
        print(f"{path.stem}: {accuracy:.2%}, {record['result']['minutes_of_training']} minutes")
