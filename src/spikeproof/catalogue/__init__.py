"""The only place where a string becomes an object."""

from spikeproof.catalogue._evaluation import OWN, read_rule, read_suite, read_threat, threat_of
from spikeproof.catalogue._kinds import KINDS
from spikeproof.catalogue._read import from_values, to_values
from spikeproof.catalogue._recipe import (
    Input,
    Network,
    Recipe,
    Source,
    Spec,
    Stage,
    construct,
    load_network,
    read_data,
    read_recipe,
    read_spec,
    specify,
)
from spikeproof.catalogue._stages import calibration_batches, handed_over, in_stages

__all__ = [
    "KINDS",
    "OWN",
    "Input",
    "Network",
    "Recipe",
    "Source",
    "Spec",
    "Stage",
    "calibration_batches",
    "construct",
    "from_values",
    "handed_over",
    "in_stages",
    "load_network",
    "read_data",
    "read_recipe",
    "read_rule",
    "read_spec",
    "read_suite",
    "read_threat",
    "specify",
    "threat_of",
    "to_values",
]
