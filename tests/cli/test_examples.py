from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer.main

from spikeproof.cli import app
from spikeproof.cli._examples import CODES, EXAMPLES

LINES, COLUMNS = 50, 100  # of a screen
QUIET = {key: value for key, value in os.environ.items() if not key.startswith("_SPIKEPROOF")}
# what a shell asks for, from a process that ends with "torch" where that was imported
ASK = """
import sys
from spikeproof.cli import main
sys.argv = ["spikeproof", *sys.argv[1:]]
try:
    main()
finally:
    print(*{"torch", "numpy", "rich.progress"} & set(sys.modules))
"""


def commands() -> Iterator[str]:
    for name, command in typer.main.get_command(app).commands.items():
        yield from (f"{name} {inner}" for inner in getattr(command, "commands", {}))
        if not hasattr(command, "commands"):
            yield name


def test_every_command_has_examples_and_they_can_be_typed():
    assert {*commands()} == {*EXAMPLES}
    for name, lines in EXAMPLES.items():
        assert lines
        for line in lines:
            words = shlex.split(line)
            assert words[: 1 + len(name.split())] == ["spikeproof", *name.split()]
            command = typer.main.get_command(app)
            for word in name.split():
                command = command.commands[word]
            command.make_context(name, words[1 + len(name.split()) :])  # parses, runs nothing


@pytest.mark.parametrize("name", ["", "data", *commands()])
def test_its_help_fits_a_screen_and_shows_them(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    with pytest.raises(SystemExit) as ended:
        app([*name.split(), "--help"], prog_name="spikeproof")
    said = capsys.readouterr().out
    assert ended.value.code == 0
    lines = said.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    for line in EXAMPLES.get(name, ()):
        assert f"    {line}" in lines
    if not name:
        assert " ".join(CODES.split()) in " ".join(said.split())
        assert "--install-completion" in said


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("spikeproof ev", ["evaluate"]),
        ("spikeproof data ", ["list", "check", "show"]),
        ("spikeproof demo --d", ["--device"]),
    ],
)
def test_a_shell_completes_words_without_torch(typed, wanted):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**QUIET, "_SPIKEPROOF_COMPLETE": "complete_bash", **words},
        capture_output=True,
        text=True,
        check=True,
    )
    *found, imported = done.stdout.split("\n")[:-1]
    assert found == wanted
    assert imported == ""


def test_the_script_for_a_shell_names_the_command():
    done = subprocess.run(
        [sys.executable, "-c", ASK, "--show-completion", "bash"],
        env={**QUIET, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "complete -o default -F _spikeproof_completion spikeproof" in done.stdout
    assert "torch" not in done.stdout
