"""The one exception that a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Refusal(ValueError):
    """Input that cannot be used; the message says value, rule and remedy in one sentence.

    The command line prints the message alone and exits with code 2. Every other exception is a
    defect of the program and keeps its traceback.
    """


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
