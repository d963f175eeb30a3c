"""From a trained network to a small one, to a spiking one, and to data."""

from spikeproof.compress._allocation import Allocation, allocate
from spikeproof.compress._budgets import Harp, over_budget, within_budget
from spikeproof.compress._calibrate import Calibration, calibrate, estimate_norms
from spikeproof.compress._convert import convert, spiking_twin
from spikeproof.compress._holding import Change, Hold, holding
from spikeproof.compress._layers import Part, prunable
from spikeproof.compress._lower import lower
from spikeproof.compress._magnitude import Gradual, Magnitude
from spikeproof.compress._masks import TINY, Masks, apply, kept_count, masks_of
from spikeproof.compress._patterns import NM, Block, Pattern, Unstructured
from spikeproof.compress._pruning import Pruning
from spikeproof.compress._random import RandomStatic
from spikeproof.compress._rigl import RigL
from spikeproof.compress._sampler import SignSampler
from spikeproof.compress._scores import Hydra, Search

__all__ = [
    "NM",
    "TINY",
    "Allocation",
    "Block",
    "Calibration",
    "Change",
    "Gradual",
    "Harp",
    "Hold",
    "Hydra",
    "Magnitude",
    "Masks",
    "Part",
    "Pattern",
    "Pruning",
    "RandomStatic",
    "RigL",
    "Search",
    "SignSampler",
    "Unstructured",
    "allocate",
    "apply",
    "calibrate",
    "convert",
    "estimate_norms",
    "holding",
    "kept_count",
    "lower",
    "masks_of",
    "over_budget",
    "prunable",
    "spiking_twin",
    "within_budget",
]
