"""How long a page takes to be seen: python -m benchmarks.first_paint [--quick].

A small network of Fashion-MNIST is trained and attacked by `standard` on 1,000 samples. Pages are
made of its record, and of fifty copies of it, and opened from the disk in a headless Chromium. A
run that lies in --work is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._nets import ROOT, fitted
from benchmarks._timing import RESULTS, quartiles
from benchmarks.pages import DOCS, filled, table

from spikeproof import records
from spikeproof.attacks import Linf
from spikeproof.catalogue import read_recipe
from spikeproof.evaluate import Conditions, evaluate
from spikeproof.report import make_page, read_runs, write_page
from tests.report.browser import Tab, browser, find

RECORD, PAGE = RESULTS / "first-paint.json", DOCS / "report.md"
RECIPE = "fashion-mnist-natural", ('model={kind="mlp", hidden=[64]}', "train.epochs=4")
QUICK = "digits-natural", ('model={kind="mlp", hidden=[8]}', "train.epochs=2")
EPS, SAMPLES, RUNS = 0.1, 1000, 50
LOOKS = 7  # how often a page is opened
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
Values = dict[str, Any]


def attacked(work: Path, root: Path, *, quick: bool) -> Path:
    """Returns the folder of the network and its evaluation, which is made where it is missing."""
    name, changes = QUICK if quick else RECIPE
    run = work / name
    net, data, _ = fitted(read_recipe(ROOT / "recipes" / f"{name}.toml", changes), run, root)
    out = run / "evaluation"
    suite, count = ("smoke", 8) if quick else ("standard", SAMPLES)
    conditions = Conditions(count, batch=256, resume=out.exists())
    evaluate(net, data, Linf(EPS), suite, out=out, conditions=conditions)
    return run


def copies(run: Path, count: int, folder: Path) -> list[Path]:
    """Returns so many runs that hold the same records."""
    paths = [folder / f"run-{n:02d}" for n in range(1, count + 1)]
    for path in paths:
        shutil.copytree(run, path, ignore=shutil.ignore_patterns("blocks"))
    return paths


def seen(tab: Tab, page: Path, looks: int) -> Values:
    """Returns when a page is painted first, and when all that is open on it is drawn."""
    painted, drawn = [], []
    for _ in range(looks):
        tab.open(page)
        tab.wait("document.documentElement.dataset.drawn === 'yes'")
        drawn.append(tab.ask("performance.now()") / 1000)
        painted.append(tab.ask(PAINT) / 1000)
    return {
        "first_paint_seconds": quartiles(painted) | {"largest": round(max(painted), 3)},
        "drawn_seconds": quartiles(drawn) | {"largest": round(max(drawn), 3)},
    }


def measured(runs: list[Path], page: Path, tab: Tab, looks: int) -> Values:
    """Returns what it takes to make a page, what it weighs, and when it is seen."""
    began = time.perf_counter()
    write_page(page, make_page(read_runs(runs)))
    made = time.perf_counter() - began
    return {
        "runs": len(runs),
        "made_seconds": round(made, 2),
        "megabytes": round(page.stat().st_size / 1e6, 2),
        **seen(tab, page, looks),
    }


def rows(record: Values) -> list[list[str]]:
    """Returns the cells of the table: what pages weigh, and when they are seen."""
    out = [["runs", "MB", "made, s", "first paint, s", "at most", "all drawn, s"]]
    for page in sorted(record["pages"].values(), key=lambda page: page["runs"]):
        paint, drawn = page["first_paint_seconds"], page["drawn_seconds"]
        cells = [page["runs"], page["megabytes"], page["made_seconds"]]
        cells += [paint["median"], paint["largest"], drawn["median"]]
        out.append([str(cell) for cell in cells])
    return out


def main() -> None:
    """Makes the pages, looks at them, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/first-paint"))
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if find() is None:
        raise SystemExit("no Chromium is here; install one, or name it in SPIKEPROOF_BROWSER")
    load = os.getloadavg()[0]
    run = attacked(given.work, Path(os.environ.get("SPIKEPROOF_DATA", "data")), quick=given.quick)
    looks, count = (1, 2) if given.quick else (LOOKS, RUNS)
    with tempfile.TemporaryDirectory() as name, browser(Path(name) / "profile") as tab:
        folder = Path(name)
        version = tab.call("Browser.getVersion")["product"]
        fifty = copies(run, count, folder)
        pages = {
            "one": measured([run], folder / "one.html", tab, looks),
            "fifty": measured(fifty, folder / "fifty.html", tab, looks),
        }
    (found,) = read_runs([run])[0].evaluations
    record = {
        "schema": records.SCHEMA,
        "kind": "first-paint",
        "environment": records.environment() | {"browser": version, "load_before": round(load, 2)},
        "evaluation": {
            "data": found.values["data"]["name"],
            "samples": found.samples,
            "suite": found.values["suite"],
            "steps": len(found.steps),
            "worst_case": found.worst,
            "sha256": found.sha256,
        },
        "pages": pages,
    }
    if given.out or not given.quick:
        records.write_json(given.out or RECORD, record)
    shown = table(rows(record))
    print(shown)
    if not (given.out or given.quick):
        PAGE.write_text(filled(PAGE.read_text(), {"first paint": shown}))


if __name__ == "__main__":
    main()
