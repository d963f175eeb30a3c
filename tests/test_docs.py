from __future__ import annotations

import dataclasses
import doctest
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import typer.main

from spikeproof import attacks, catalogue, compress, data, models, spiking, training
from spikeproof.catalogue import KINDS, to_values
from spikeproof.cli import app
from spikeproof.spiking import recorded

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
RUN = [page for page in PAGES if ">>> " in page.read_text()]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(page: Path) -> list[str]:
    """The lines of code blocks and the pieces of inline code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.S | re.M)
    prose = re.sub(r"^```\w*\n.*?^```$", "", page.read_text(), flags=re.S | re.M)
    return [*"".join(blocks).splitlines(), *re.findall(r"`([^`\n]+)`", prose)]


def test_the_main_pages_have_code_that_is_run():
    assert {page.name for page in RUN} >= {"README.md", "neurons.md", "data.md", "training.md"}


@pytest.mark.parametrize("page", RUN, ids=named)
def test_what_a_page_shows_is_what_happens(page):
    result = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_project_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), target
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.M) if anchor else []
            assert not anchor or anchor in {h.lower().replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_that_is_named_exists(page):
    roots = (ROOT, ROOT / "src" / "spikeproof", ROOT / "docs")
    for piece in code(page):
        for name in re.findall(r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*\.(?:py|md|txt|cff)\b", piece):
            assert any((root / name).exists() for root in roots), name
        for name in re.findall(r"\b(?:src|tests|recipes|docs|examples|scripts)/[\w./-]+", piece):
            assert (ROOT / name).exists(), name


def commands(page: Path) -> list[str]:
    found = [line.removeprefix(".venv/bin/").removeprefix("$ ") for line in code(page)]
    return [line for line in found if line.startswith("spikeproof ")]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_is_shown_can_be_typed(page):
    for line in commands(page):
        command, words = typer.main.get_command(app), shlex.split(line)
        name = words.pop(0)
        while hasattr(command, "commands") and not words[0].startswith("-"):
            name = words.pop(0)
            command = command.commands[name]
        if hasattr(command, "commands"):  # an option of its own, which would act at once
            assert words[0] in {option for one in command.params for option in one.opts}, line
            continue
        command.make_context(name, words)  # parses, and runs nothing


def test_the_readme_shows_every_command():
    shown = " ".join(commands(ROOT / "README.md"))
    for name, command in typer.main.get_command(app).commands.items():
        for inner in getattr(command, "commands", {"": None}):
            assert f"spikeproof {name} {inner}".strip() in shown


def literal(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case None:
            return "none"
        case dict():
            return f"{{ {', '.join(f'{k} = {literal(v)}' for k, v in value.items())} }}"
    return str(value)


def usual(field: dataclasses.Field) -> object:
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default


def default(field: dataclasses.Field) -> str | None:
    if field.default is field.default_factory is dataclasses.MISSING:
        return None
    value = usual(field)
    plain = to_values(value)
    if dataclasses.is_dataclass(value):  # the kind, and what its own row does not say
        same = [f.name for f in dataclasses.fields(value) if usual(f) == getattr(value, f.name)]
        plain = {key: v for key, v in plain.items() if key not in same}
        plain = {"kind": value.kind, **plain}
    return literal(plain)


def section_rows() -> list[str]:
    sections = (
        catalogue.Source,
        data.Augmentation,
        catalogue.Network,
        training.Plan,
        compress.Calibration,
        catalogue.Stage,
    )
    fields = [field for section in sections for field in dataclasses.fields(section)]
    shown = [(field.name, default(field)) for field in fields]
    return [f"| `{name}` | {f'`{text}`' if text else 'required'} |" for name, text in shown]


ATTACKS = (attacks.Threat, attacks.Search, attacks.Loss)


def kind_rows(kinds: Iterable[object]) -> list[str]:
    rows = []
    for member in (member for kind in kinds for member in KINDS[kind]):
        keys = [(f.name, default(f)) for f in dataclasses.fields(member) if f.name != "kind"]
        shown = [f"`{name} = {text}`" if text else f"`{name}` required" for name, text in keys]
        rows.append(f"| `{member.kind}` | {', '.join(shown) or 'none'} |")
    return rows


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "recipes.md",
            [*section_rows(), *kind_rows(kind for kind in KINDS if kind not in ATTACKS)],
        ),
        ("attacks.md", kind_rows(ATTACKS)),
    ],
)
def test_a_page_lists_every_key_with_its_default(name, wanted):
    page = (ROOT / "docs" / name).read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in wanted if not any(line.startswith(row) for line in lines)] == []
    assert len(lines) == len(wanted), "a key that does not exist, or one that stands twice"


def test_the_recipe_page_lists_every_shipped_recipe():
    page = (ROOT / "docs" / "recipes.md").read_text()
    for path in (ROOT / "recipes").glob("*.toml"):
        assert f"(../recipes/{path.name})" in page


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("neurons.md", (spiking.Surrogate, spiking.Rule, spiking.Encoder)),
        ("models.md", (models.Architecture,)),
        ("compress.md", (compress.Pruning,)),
        ("training.md", (training.Objective, training.Penalty)),
    ],
)
def test_whatever_has_a_name_has_a_row(page, kinds):
    rows = [x for x in (ROOT / "docs" / page).read_text().splitlines() if x.startswith("| `")]
    for member in (member for kind in kinds for member in KINDS[kind]):
        assert any(re.match(rf"\| .*`{member.__name__}\b", row) for row in rows), member.__name__


def test_the_sizes_of_the_models_are_what_they_are():
    page = (ROOT / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| `(\w+)\(([\d, ]*)\)` \| ([\d,]+) \| (.*) \|$", page, re.M)
    assert len(rows) == 12
    for name, arguments, *numbers in rows:
        knobs = [int(number) for number in re.findall(r"\d+", arguments)]
        model = models.build(getattr(models, name)(*knobs), models.Setting(T=1)).eval()
        with torch.no_grad(), recorded(model) as layers:
            model(torch.zeros(1, 3, 32, 32))
        counted = (
            models.prunable_weights(model),
            sum(parameter.numel() for parameter in model.parameters()),
            sum(layer.neurons for layer in layers.values()),
            len(layers),
        )
        assert " | ".join(numbers) == " | ".join(f"{number:,}" for number in counted), name


@pytest.mark.parametrize("script", EXAMPLES, ids=named)
def test_an_example_is_short_and_runs(script, tmp_path):
    assert len(script.read_text().splitlines()) <= 60
    done = subprocess.run(
        [sys.executable, "-W", "error", script, tmp_path / "out"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert any((tmp_path / "out").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"out"}, "it writes elsewhere"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_is_stripped_and_runs_offline(path, tmp_path):
    told = json.loads(path.read_text())["cells"]
    code = [cell for cell in told if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    alone = "import socket\nsocket.socket.connect = socket.getaddrinfo = None"
    cells = [alone, *("".join(cell["source"]) for cell in code)]
    (tmp_path / "cells.py").write_text("\n".join(cells))
    done = subprocess.run(
        [sys.executable, "-W", "error", tmp_path / "cells.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("report.html"))
    assert str(pages[0]) in done.stdout
    assert "data-figure" in pages[0].read_text()


def peers_row(record: dict) -> str:
    """A row of the table of docs/evaluation.md, from a record of benchmarks/peers.py."""
    rows = {(row["package"], row["attack"]): row for row in record["rows"]}
    ours = [rows["spikeproof", name] for name in ("pgd-10-own", "sapgd-assg-100", "ensemble19")]
    others = [row for row in record["rows"] if row["package"] != "spikeproof"]
    shares = [
        record["clean"],
        ours[0]["standing"],
        rows["pyautoattack", "AutoAttack"]["standing"],
        ours[2]["standing"],
        ours[1]["standing"],
        record["standard"]["standing"],
    ]
    broken = max(row["broken"] for row in [*others, ours[2]])
    shown = " | ".join(f"{100 * share:.1f}" for share in shares)
    return f"| {record['n']} | {shown} | {broken} of {record['standard']['survivors']} |"


def test_the_table_of_peers_is_that_of_the_records():
    page = (ROOT / "docs" / "evaluation.md").read_text()
    records = sorted((ROOT / "benchmarks" / "results").glob("peers-*.json"))
    assert len(records) >= 3
    for path in records:
        row = peers_row(json.loads(path.read_text()))
        assert f"| {path.stem.removeprefix('peers-')} {row}" in page, row
