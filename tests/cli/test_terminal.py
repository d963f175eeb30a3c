from __future__ import annotations

from rich.table import Table

from spikeproof.cli._terminal import terminal


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
