"""Where everything is printed: plain text, for file names and messages are data, not markup."""

from __future__ import annotations

from rich.console import Console


def terminal() -> Console:
    """Returns a console that prints brackets as brackets."""
    console = Console(markup=False, highlight=False)
    console.soft_wrap = not console.is_terminal  # a file or a pipe gets a sentence on one line
    return console
