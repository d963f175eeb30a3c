"""The command line: parses, prints, picks a device."""

from spikeproof.cli._app import app, main

__all__ = ["app", "main"]
