"""Ways to be fooled: a threat, a search, a loss and a gradient rule, chosen one by one."""

from spikeproof.attacks._apgd import APGD
from spikeproof.attacks._ascend import ascend
from spikeproof.attacks._attack import Attack, Search, run
from spikeproof.attacks._boundary import HopSkipJump
from spikeproof.attacks._coordinate import Coordinate
from spikeproof.attacks._event_threats import Flips, RelaxedLinf, Retiming
from spikeproof.attacks._exposed import Exposed
from spikeproof.attacks._fab import FAB, nearest
from spikeproof.attacks._fgsm import FGSM, RFGSM
from spikeproof.attacks._gumbel import Gumbel
from spikeproof.attacks._losses import (
    CE,
    DLR,
    Loss,
    Margin,
    StepCE,
    TargetedDLR,
    correct,
    margins,
)
from spikeproof.attacks._mifgsm import MIFGSM
from spikeproof.attacks._pgd import PGD
from spikeproof.attacks._random import RandomSearch
from spikeproof.attacks._regions import JUDGED, region
from spikeproof.attacks._retiming import RetimingSearch
from spikeproof.attacks._sapgd import SAPGD
from spikeproof.attacks._sda import SDA
from spikeproof.attacks._sea import SEA
from spikeproof.attacks._sparse import SparseSearch
from spikeproof.attacks._spikefool import SpikeFool
from spikeproof.attacks._square import Square
from spikeproof.attacks._standing import Chance, Outcome, Standing
from spikeproof.attacks._structured import CornerEvents, DashEvents, FrameEvents
from spikeproof.attacks._threat import L0, L1, L2, Ball, Linf, Threat
from spikeproof.attacks._together import run_together, together
from spikeproof.attacks._topk import TopK
from spikeproof.attacks._victim import (
    Victim,
    fingerprint,
    frozen,
    identity,
    stochastic,
    under_attack,
)

__all__ = [
    "APGD",
    "CE",
    "DLR",
    "FAB",
    "FGSM",
    "JUDGED",
    "L0",
    "L1",
    "L2",
    "MIFGSM",
    "PGD",
    "RFGSM",
    "SAPGD",
    "SDA",
    "SEA",
    "Attack",
    "Ball",
    "Chance",
    "Coordinate",
    "CornerEvents",
    "DashEvents",
    "Exposed",
    "Flips",
    "FrameEvents",
    "Gumbel",
    "HopSkipJump",
    "Linf",
    "Loss",
    "Margin",
    "Outcome",
    "RandomSearch",
    "RelaxedLinf",
    "Retiming",
    "RetimingSearch",
    "Search",
    "SparseSearch",
    "SpikeFool",
    "Square",
    "Standing",
    "StepCE",
    "TargetedDLR",
    "Threat",
    "TopK",
    "Victim",
    "ascend",
    "correct",
    "fingerprint",
    "frozen",
    "identity",
    "margins",
    "nearest",
    "region",
    "run",
    "run_together",
    "stochastic",
    "together",
    "under_attack",
]
