"""The algorithmic metrics of NeuroBench (Yik et al., 2025), static and of a workload."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.energy._operations import Operations


@dataclass(frozen=True)
class Metrics:
    """Shares are of zeros; operations are means of an inference, all steps together."""

    footprint: int  # bytes
    connection_sparsity: float
    activation_sparsity: float
    dense: float  # operations with all weights and all values
    effective_macs: float
    effective_acs: float


def metrics(counted: Operations, spikes: float, footprint: int) -> Metrics:
    """Returns the metrics; ``spikes`` are those of an inference, ``footprint`` bytes on disk."""
    weights = sum(layer.weights for layer in counted.layers)
    kept = sum(layer.kept for layer in counted.layers)
    return Metrics(
        footprint,
        1 - kept / weights if weights else 0.0,
        1 - spikes / counted.updates if counted.updates else 0.0,
        sum(layer.possible for layer in counted.layers),
        counted.multiplied,
        counted.synaptic,
    )
