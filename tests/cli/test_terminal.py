from __future__ import annotations

import io
import re

import pytest
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from spikeproof.cli._terminal import aside, tell, terminal, voice


def test_brackets_are_text(capsys):
    terminal().print("pip install 'spikeproof[images]' [bold]")
    table = Table("a")
    table.add_row("[red]x")
    terminal().print(table)
    said = capsys.readouterr().out
    assert "spikeproof[images]' [bold]" in said
    assert "[red]x" in said


def test_a_pipe_gets_a_sentence_on_one_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal().print("word " * 40)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_no_color_is_kept_and_bars_stay_visible(monkeypatch):
    seen = {}
    for wish in ("", "1"):
        monkeypatch.setenv("NO_COLOR", wish)
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        for make in (terminal, aside):
            console = make()
            console.file = io.StringIO()
            with Progress(TextColumn("{task.description}"), BarColumn(), console=console) as bar:
                bar.update(bar.add_task("epoch 1/2", total=4), completed=2)
            said = console.file.getvalue()
            assert "epoch 1/2" in said
            assert "\u2501" in said
            seen[make, wish] = bool(re.search(r"\x1b\[[\d;]*3[0-9]", said))
    assert seen == {(make, wish): not wish for make, wish in seen}


@pytest.mark.parametrize("lively", [True, False])
def test_a_terminal_shows_bars_beside_the_story_and_a_log_shows_lines(lively, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR" if lively else "NO_COLOR", "1")
    console = aside()
    console.file = io.StringIO()
    console.print("epoch 1/15")
    with Progress(TextColumn("{task.description}"), console=console) as bar:
        bar.add_task("training")
    said = console.file.getvalue()
    assert ("epoch 1/15" in said) is not lively
    assert "training" in said


@pytest.mark.parametrize("lively", [True, False])
def test_a_quiet_command_tells_results_and_nothing_else(lively, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR" if lively else "NO_COLOR", "1")
    console = voice(quiet=True)
    console.file = io.StringIO()
    console.print("epoch 1/15")
    with Progress(TextColumn("{task.description}"), console=console) as bar:
        bar.add_task("training")
        bar.console.print("epoch 2/15")
    tell(console, "worst case 40 %")
    console.print("weights")
    assert console.file.getvalue() == "worst case 40 %\n"


def test_beside_a_record_a_quiet_command_tells_nothing():
    console = voice(as_json=True, quiet=True)
    console.file = io.StringIO()
    console.print("epoch 1/15")
    tell(console, "worst case 40 %")
    assert console.file.getvalue() == ""
