"""The command line: parses, prints, picks a device."""

from spikeproof.cli._app import app
from spikeproof.cli._main import main

__all__ = ["app", "main"]
