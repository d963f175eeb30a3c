"""The house: doors, mirrors, oracles, names, sizes."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spikeproof

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "spikeproof"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))
BANNED_NAMES = {"utils", "common", "helpers", "misc", "core", "base", "types", "tools", "lib"}
OPTIONAL = {"triton"}  # what whole modules are made of, and an extra brings


def imports(path: Path) -> list[tuple[str, list[str]]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [alias.name for alias in node.names]))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_are_entered_by_their_door(path):
    own = path.relative_to(SOURCE).parts[0]
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "spikeproof" and len(parts) > 2 and parts[2].startswith("_"):
            assert parts[1] == own, f"{path.name} enters {parts[1]} through {parts[2]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_have_speaking_names_and_a_size_one_can_read(path):
    assert path.stem.strip("_") not in BANNED_NAMES
    assert len(path.read_text().splitlines()) <= 400


def test_the_loop_can_be_read():
    assert len((SOURCE / "training" / "_loop.py").read_text().splitlines()) < 300


def test_no_file_name_stands_twice_in_a_room_and_none_is_public_but_the_doors():
    inside = [p for p in MODULES if p.parent != SOURCE]
    assert all(p.name.startswith("_") for p in inside)


def test_every_module_has_its_tests():
    missing = []
    for path in MODULES:
        if path.name.startswith("__"):
            continue
        mirror = path.relative_to(SOURCE).parent / f"test_{path.stem.lstrip('_')}.py"
        if not (ROOT / "tests" / mirror).exists():
            missing.append(str(mirror))
    assert missing == []


def test_oracles_know_nothing_of_the_package():
    for path in (ROOT / "tests" / "oracles").glob("*.py"):
        assert all(m.split(".")[0] != "spikeproof" for m, _ in imports(path)), path.name


def test_every_trap_of_the_field_has_a_test_of_its_number():
    found = {
        int(match[1])
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (match := re.match(r"test_trap_(\d{2})_", node.name))
    }
    assert found == set(range(1, 22))


def test_forbidden_modules_are_imported_nowhere():
    allowed = {"torch.distributed": SOURCE / "training" / "_distributed.py"}
    for path in MODULES:
        for module, names in imports(path):
            full = {module, *(f"{module}.{name}" for name in names)}
            assert not full & {"pickle", "shelve", "marshal", "torchvision", "torchaudio"}, path
            for name, only in allowed.items():
                assert path == only or not any(f == name or f.startswith(name + ".") for f in full)


def test_only_the_command_line_prints():
    for path in MODULES:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls or path.parent.name == "cli", path


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_real_sorted_and_documented(room):
    door = importlib.import_module(f"spikeproof.{room}")
    tree = ast.parse(Path(door.__file__).read_text())
    imported = {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert set(door.__all__) == imported
    assert len(door.__all__) == len(set(door.__all__))
    for name in door.__all__:
        thing = getattr(door, name)
        if callable(thing) and getattr(thing, "__module__", "").startswith("spikeproof"):
            assert thing.__doc__, f"{room}.{name}"


def test_the_public_names_are_the_committed_ones():
    lines = []
    for room in ROOMS:
        door = importlib.import_module(f"spikeproof.{room}")
        lines += [f"{room}.{name}" for name in sorted(door.__all__)]
    committed = (ROOT / "tests" / "public_names.txt").read_text().splitlines()
    assert lines == committed, "update tests/public_names.txt and the CHANGELOG with it"


def test_every_module_can_be_imported():
    for info in pkgutil.walk_packages(spikeproof.__path__, "spikeproof."):
        if info.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(info.name)
        except ModuleNotFoundError as absent:
            if absent.name not in OPTIONAL:
                raise


def test_the_help_needs_no_torch():
    told = "import sys, spikeproof.cli; print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
