"""Where everything is printed: plain text, for file names and messages are data, not markup."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table


def terminal(kind: type[Console] = Console) -> Console:
    """Returns a console that prints brackets as brackets."""
    console = kind(markup=False, highlight=False)
    console.soft_wrap = not console.is_terminal  # a file or a pipe gets a sentence on one line
    return console


def aside() -> Console:
    """Returns a console beside the story: bars in a terminal, whole sentences in a log."""
    console = _Aside(stderr=True, markup=False, highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


def voice(*, as_json: bool = False, quiet: bool = False) -> Console:
    """Returns where a command tells what it does: aside where a record is all that is asked for.

    A quiet one shows what it is told (see ``tell``) and nothing else; beside a record, nothing.
    """
    console = aside() if as_json else terminal(_Results if quiet else Console)
    console.quiet = quiet
    return console


def tell(console: Console, line: str) -> None:
    """Prints a result, which a command says even where it is quiet."""
    quiet = console.quiet
    console.quiet = quiet and not isinstance(console, _Results)
    try:
        console.print(line)
    finally:
        console.quiet = quiet


def say(record: Any) -> None:
    """Prints a record as JSON for a program to read."""
    terminal().print(json.dumps(record, indent=1, sort_keys=True), soft_wrap=True)


class _Results(Console):
    """Shows what it is told, where it is quiet."""


class _Aside(Console):
    """Shows what moves, and in a terminal nothing that stays."""

    def print(self, *objects: Any, **how: Any) -> None:
        if not (self.is_terminal and any(isinstance(one, str | Table) for one in objects)):
            super().print(*objects, **how)
