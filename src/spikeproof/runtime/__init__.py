"""Packed networks at work: a dense oracle and a sparse engine, without torch."""

from spikeproof.runtime._agreement import (
    ROUNDING,
    TOLERANCE,
    Agreement,
    agreement,
    margins,
)
from spikeproof.runtime._engine import Activity, Engine, State
from spikeproof.runtime._oracle import Trace, trace
from spikeproof.runtime._samples import Samples, can_read, read_samples

__all__ = [
    "ROUNDING",
    "TOLERANCE",
    "Activity",
    "Agreement",
    "Engine",
    "Samples",
    "State",
    "Trace",
    "agreement",
    "can_read",
    "margins",
    "read_samples",
    "trace",
]
