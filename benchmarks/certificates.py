"""What is certified beside what stands: python -m benchmarks.certificates [RECIPE ...].

A row is one recipe and one budget: trained, certified by interval and by linear bounds, attacked by
`standard`, and compared sample by sample. A row that lies in benchmarks/results/certificates under
the same recipe, threat and samples is kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks._nets import RESULTS, ROOT, fitted, kept
from benchmarks.pages import DOCS, filled, table

from spikeproof import records
from spikeproof.attacks import Linf
from spikeproof.catalogue import Recipe, read_recipe, to_values
from spikeproof.errors import Refusal
from spikeproof.evaluate import CROWN, Conditions, certify, evaluate, sandwich

FOLDER = RESULTS / "certificates"
PAGE = DOCS / "findings.md"
SUITE, SAMPLES = "standard", 64
BUDGETS = {
    "digits-natural": (0.01, 0.05),
    "digits-ibp without bounds": (0.01, 0.05),
    "digits-ibp": (0.01, 0.05, 0.1),
    "fashion-mnist-ibp without bounds": (0.01,),
    "fashion-mnist-ibp": (0.01, 0.025),
}
PLAIN = " without bounds"  # the same network, trained on cross entropy alone
HEAD = (
    "recipe",
    "Linf",
    "images",
    "clean",
    "certified by intervals",
    "by lines",
    "standing",
    "certified and broken",
)
Values = dict[str, Any]


def recipe_of(name: str) -> Recipe:
    """Returns the recipe of a row."""
    path = ROOT / "recipes" / f"{name.removesuffix(PLAIN)}.toml"
    return read_recipe(path, ["stages=[]", "train.epochs=30"] if name.endswith(PLAIN) else [])


def promise(recipe: str, eps: float) -> Values:
    """Returns what decides a row; another promise is another row."""
    return {
        "recipe": to_values(recipe_of(recipe)),
        "threat": to_values(Linf(eps)),
        "suite": SUITE,
        "samples": SAMPLES,
    }


def path_of(recipe: str, eps: float) -> Path:
    """Returns where a row lies."""
    return FOLDER / f"{recipe.replace(' ', '-')}-{eps:g}.json"


def made(recipe: str, eps: float, work: Path, root: Path) -> Values:
    """Returns a row, made of one trained network."""
    promised = promise(recipe, eps)
    net, data, _ = fitted(recipe_of(recipe), work / recipe.replace(" ", "-"), root)
    conditions = Conditions(limit=SAMPLES, keep_adversarials=False)
    certificate = certify(net, data, Linf(eps), conditions=conditions)
    record = evaluate(net, data, Linf(eps), SUITE, conditions=conditions, checks=())
    check = sandwich(certificate, record)
    bits = {"clean": record.clean, "certified": certificate.certified, "stands": record.robust}
    return {
        **promised,
        **{name: "".join("01"[bit] for bit in row) for name, row in bits.items()},
        "margin": list(certificate.margin),
        "sandwich": {"verdict": check.verdict, "broken": check.value, "detail": check.detail},
        "weights_sha256": record.model["weights_sha256"],
        "environment": dict(record.environment),
        "times": {"certify": dict(certificate.times), "evaluate": dict(record.times)},
    }


def by_lines(row: Values, recipe: str, eps: float, work: Path, root: Path) -> Values:
    """Returns a row with what linear bounds certify of its network, or why they refuse it."""
    net, data, _ = fitted(recipe_of(recipe), work / recipe.replace(" ", "-"), root)
    made: Values = {"method": to_values(CROWN())}
    try:
        found = certify(net, data, Linf(eps), CROWN(), conditions=Conditions(limit=SAMPLES))
    except Refusal as refusal:
        return {**row, "crown": {**made, "refused": str(refusal)}}
    if found.model["weights_sha256"] != row["weights_sha256"]:
        raise SystemExit(f"{work} holds another network than that of the row; remove either")
    made["certified"] = "".join("01"[bit] for bit in found.certified)
    made["margin"] = list(found.margin)
    return {**row, "crown": {**made, "times": dict(found.times)}}


def rows(folder: Path = FOLDER) -> list[list[str]]:
    """Returns the cells of the rows as they would be made now."""
    out = [list(HEAD)]
    for recipe, budgets in BUDGETS.items():
        for eps in budgets:
            path = folder / path_of(recipe, eps).name
            if not kept(path, promise(recipe, eps)):
                continue
            row = records.read_json(path)
            if "crown" not in row:
                continue
            lines = row["crown"].get("certified", "")
            bits = (row["clean"], row["certified"], lines, row["stands"])
            shown = [f"{100 * bit.count('1') / SAMPLES:.1f}" if bit else "-" for bit in bits]
            sure = zip(lines or row["certified"], row["stands"], strict=True)
            broken = sum(one == "1" and stands == "0" for one, stands in sure)
            out.append([recipe, f"{eps:g}", str(SAMPLES), *shown, str(broken)])
    return out


def main() -> None:
    """Makes the rows that are asked for and missing, and draws the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(BUDGETS))
    parser.add_argument("--work", type=Path, default=Path("runs/certificates"))
    root = Path(os.environ.get("SPIKEPROOF_DATA", "data"))
    asked = parser.parse_args()
    for recipe in asked.recipes:
        for eps in BUDGETS[recipe]:
            path = path_of(recipe, eps)
            where = recipe, eps, asked.work, root
            if not kept(path, promise(recipe, eps)):
                records.write_json(path, made(*where))
            row = records.read_json(path)
            if row.get("crown", {}).get("method") != to_values(CROWN()):
                records.write_json(path, by_lines(row, *where))
            print(path)
    PAGE.write_text(filled(PAGE.read_text(), {"certificates": table(rows())}))


if __name__ == "__main__":
    main()
