"""Records to one page that a person reads: self-contained, from the disk, without a network."""

from spikeproof.report._leaderboard import leaderboard
from spikeproof.report._page import make_page, write_page
from spikeproof.report._pictures import Look, Originals
from spikeproof.report._read import ENERGY, PACKED, Evaluation, Run, read_runs

__all__ = [
    "ENERGY",
    "PACKED",
    "Evaluation",
    "Look",
    "Originals",
    "Run",
    "leaderboard",
    "make_page",
    "read_runs",
    "write_page",
]
