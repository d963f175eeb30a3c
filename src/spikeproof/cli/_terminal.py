"""Where everything is printed: plain text, for file names and messages are data, not markup."""

from __future__ import annotations

from rich.console import Console


def terminal() -> Console:
    """Returns a console that prints brackets as brackets."""
    return Console(markup=False, highlight=False, soft_wrap=False)
