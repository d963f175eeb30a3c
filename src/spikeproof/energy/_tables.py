"""What an operation costs on silicon, from published measurements; off-chip memory left out."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.energy._operations import Operations
from spikeproof.errors import Refusal, nearest, short

HOROWITZ = "M. Horowitz, Computing's energy problem, ISSCC 2014, 45 nm, 0.9 V"


@dataclass(frozen=True)
class Table:
    """Picojoules of a multiplication with accumulation, and of an accumulation alone."""

    mac: float
    ac: float
    source: str


TABLES = {
    "fp32": Table(4.6, 0.9, HOROWITZ),  # 3.7 + 0.9
    "fp16": Table(1.5, 0.4, HOROWITZ),  # 1.1 + 0.4
    "int32": Table(3.2, 0.1, HOROWITZ),  # 3.1 + 0.1
    "int8": Table(0.23, 0.03, HOROWITZ),  # 0.2 + 0.03
}


@dataclass(frozen=True)
class Joules:
    """Picojoules of one inference."""

    analog: float  # layers that read the sensor's values
    synaptic: float  # layers that read spikes, or sums and means of them
    updates: float  # of membranes

    @property
    def total(self) -> float:
        """All of them."""
        return self.analog + self.synaptic + self.updates


def picojoules(counted: Operations, table: str = "fp32") -> Joules:
    """Returns the arithmetic's energy; an update accumulates, and multiplies where it leaks."""
    if table not in TABLES:
        raise Refusal(f"{short(table)} is no table of energies; {nearest(table, TABLES)}")
    cost = TABLES[table]
    graded = counted.multiplied - counted.analog
    return Joules(
        analog=counted.analog * cost.mac,
        synaptic=counted.synaptic * cost.ac + graded * cost.mac,
        updates=(counted.updates - counted.leaky) * cost.ac + counted.leaky * cost.mac,
    )
