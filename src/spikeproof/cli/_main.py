"""The process around the commands: exit codes, and errors as sentences."""

from __future__ import annotations

import errno
import io
import sys

from spikeproof.cli._app import app
from spikeproof.errors import Refusal

INTERRUPTED = 130  # what the shell expects after Ctrl-C, and what typer makes of it


def main() -> None:
    """Runs the command line; what a user can mend costs one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no encoding lacks what is printed
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="spikeproof")
    except (Refusal, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        if isinstance(error, RuntimeError) and not _lacks_memory(error):
            raise
        sys.stderr.write(f"spikeproof: {sentence(error)}\n")
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            sys.stderr.write(
                "spikeproof: stopped; what is finished is kept; --resume goes on (demo: without)\n"
            )
        raise


def sentence(error: Exception) -> str:
    """Returns what is wrong and what to do about it, on one line."""
    if isinstance(error, MemoryError | RuntimeError):
        return "there is not enough memory; take fewer samples (data.limit) or a smaller batch"
    if isinstance(error, OSError) and error.strerror:
        what = error.filename or "the disk"
        remedies = {
            errno.ENOENT: "it must exist; check the path",
            errno.EACCES: "it must be readable and writable for you; change its permissions",
            errno.ENOSPC: "files are written whole or not at all; free some space and run again",
            errno.EISDIR: "a file is needed; name one inside it",
            errno.ELOOP: "links must lead to something else than themselves; mend the link",
            errno.ENOTDIR: "a folder is needed; check the path",
        }
        remedy = remedies.get(error.errno or 0, "the system must allow it; check path and disk")
        return f"{what}: {error.strerror.lower()}; {remedy}"
    return " ".join(str(error).split())


def _lacks_memory(error: RuntimeError) -> bool:
    words = ("alloc", "not enough memory", "out of memory")  # torch has no class of its own
    return any(word in str(error).lower() for word in words)
