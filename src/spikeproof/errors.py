"""The one exception that a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Refusal(ValueError):
    """Input that cannot be used; the message says value, rule and remedy in one sentence.

    The command line prints the message alone and exits with code 2. Every other exception is a
    defect of the program and keeps its traceback.
    """


def short(value: object) -> str:
    """Returns how a value is written, with its middle left out where that is long.

    >>> short(3.5), len(short("x" * 10_000))
    ('3.5', 60)
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuses a number outside of its bounds, which belong to them; NaN is outside."""
    if not low <= value <= high:
        raise Refusal(
            f"{name} is {short(value)}; it must be a number from {low} to {high}; change it"
        )


def nearest(word: str, words: Iterable[str]) -> str:
    """Returns the remedy for an unknown name: the closest right one, or all of them.

    >>> nearest("adamm", ["sgd", "adam"])
    "did you mean 'adam'?"
    >>> nearest("x", ["sgd", "adam"])
    'choose one of: adam, sgd'
    """
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(known)}"
