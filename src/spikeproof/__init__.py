"""spikeproof: train, shrink, attack and explain robust spiking neural networks."""

__version__ = "0.1.0"
