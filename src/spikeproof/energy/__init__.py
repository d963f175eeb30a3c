"""What an inference costs: operations counted exactly, and energy by a named table."""

from spikeproof.energy._graph import fan_out, operations, published
from spikeproof.energy._live import live_operations
from spikeproof.energy._metrics import Metrics, metrics
from spikeproof.energy._operations import Layer, Operations, gain
from spikeproof.energy._tables import TABLES, Joules, Table, picojoules

__all__ = [
    "TABLES",
    "Joules",
    "Layer",
    "Metrics",
    "Operations",
    "Table",
    "fan_out",
    "gain",
    "live_operations",
    "metrics",
    "operations",
    "picojoules",
    "published",
]
