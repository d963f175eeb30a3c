"""Lets ``python -m spikeproof`` and ``torchrun -m spikeproof`` be the command."""

from spikeproof.cli import main

main()
