from __future__ import annotations

from spikeproof.energy import Layer, Operations, metrics


def test_shares_are_of_zeros():
    layers = (
        Layer("a", "analog", 4.0, 8.0, 16.0, 32.0, 5, 20),
        Layer("b", "spikes", 3.0, 6.0, 12.0, 24.0, 5, 80),
    )
    found = metrics(Operations(layers, 200.0, 0.0), spikes=50.0, footprint=999)
    assert found.footprint == 999
    assert found.connection_sparsity == 0.9
    assert found.activation_sparsity == 0.75
    assert (found.dense, found.effective_macs, found.effective_acs) == (56, 8, 6)


def test_nothing_has_no_sparsity():
    found = metrics(Operations((), 0.0, 0.0), 0.0, 0)
    assert (found.connection_sparsity, found.activation_sparsity, found.dense) == (0, 0, 0)
