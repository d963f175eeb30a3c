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
