"""Training: a plan, an objective, one loop, and checkpoints that hold no code."""

from spikeproof.training._adversarial import Adversarial
from spikeproof.training._checkpoint import SPEC, load_weights, save_model
from spikeproof.training._loop import Augment, Outcome, PerStep, Validate, fit
from spikeproof.training._mart import MART
from spikeproof.training._metrics import Samples, accuracy, evaluating, measure
from spikeproof.training._mpd_sgr import MPDSGR
from spikeproof.training._objectives import TET, CrossEntropy, Objective
from spikeproof.training._order import batches
from spikeproof.training._penalties import Fired, Pass, Penalty, penalised
from spikeproof.training._plan import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Optimizer,
    Plan,
    Precision,
    Schedule,
    Steps,
)
from spikeproof.training._progress import Progress
from spikeproof.training._rat import RAT
from spikeproof.training._retractions import Orthogonal, Retraction, Simplex
from spikeproof.training._schedules import factor
from spikeproof.training._sibp import SIBP
from spikeproof.training._sparsity import SR
from spikeproof.training._tgo import TGO
from spikeproof.training._trades import TRADES

__all__ = [
    "MART",
    "MPDSGR",
    "RAT",
    "SGD",
    "SIBP",
    "SPEC",
    "SR",
    "TET",
    "TGO",
    "TRADES",
    "Adam",
    "AdamW",
    "Adversarial",
    "Augment",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "Fired",
    "Objective",
    "Optimizer",
    "Orthogonal",
    "Outcome",
    "Pass",
    "Penalty",
    "PerStep",
    "Plan",
    "Precision",
    "Progress",
    "Retraction",
    "Samples",
    "Schedule",
    "Simplex",
    "Steps",
    "Validate",
    "accuracy",
    "batches",
    "evaluating",
    "factor",
    "fit",
    "load_weights",
    "measure",
    "penalised",
    "save_model",
]
