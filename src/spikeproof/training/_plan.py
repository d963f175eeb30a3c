"""What a training run is told: every number that decides its weights, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from spikeproof.errors import Refusal, short
from spikeproof.training._retractions import Retraction

Precision = Literal["float32", "bfloat16", "float16"]

MOST = 1_000_000_000  # of whatever is counted: beyond it, products of counts overflow


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent; ``lr`` is its peak, which the schedule multiplies."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    kind: Literal["sgd"] = "sgd"

    def __post_init__(self) -> None:
        _check_rate(self.lr, self.weight_decay)
        _check("optimizer.momentum", self.momentum, "from 0 to below 1", _fraction)
        if self.nesterov:
            _check("optimizer.momentum", self.momentum, "above 0 with nesterov", _positive)


@dataclass(frozen=True)
class Adam:
    """Adam; its weight decay is added to the gradient."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    kind: Literal["adam"] = "adam"

    def __post_init__(self) -> None:
        _check_rate(self.lr, self.weight_decay)
        _check("optimizer.betas", self.betas, "two numbers from 0 to below 1", _two_fractions)


@dataclass(frozen=True)
class AdamW:
    """Adam whose weight decay acts on the weights themselves."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    kind: Literal["adamw"] = "adamw"

    def __post_init__(self) -> None:
        _check_rate(self.lr, self.weight_decay)
        _check("optimizer.betas", self.betas, "two numbers from 0 to below 1", _two_fractions)


@dataclass(frozen=True)
class Constant:
    """The learning rate stays where it is."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the full learning rate down to the share ``final`` of it."""

    final: float = 0.0
    kind: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        _check("schedule.final", self.final, "from 0 to 1", lambda v: 0 <= v <= 1)


@dataclass(frozen=True)
class Steps:
    """The learning rate is multiplied by ``factor`` at each milestone, counted in epochs."""

    milestones: tuple[float, ...]
    factor: float = 0.1
    kind: Literal["steps"] = "steps"

    def __post_init__(self) -> None:
        rule = f"at most 100 rising epochs, above 0 and up to {MOST:,}"
        _check("schedule.milestones", self.milestones, rule, _rising)
        _check("schedule.factor", self.factor, "above 0 and at most 10", lambda v: 0 < v <= 10)


Optimizer = SGD | Adam | AdamW
Schedule = Constant | Cosine | Steps


@dataclass(frozen=True)
class Plan:
    """Everything that ``fit`` needs to know and that is not an object.

    Attributes:
        epochs: passes over the samples.
        batch: samples in a step; the last step of an epoch takes what is left.
        optimizer: the rule of descent with its peak learning rate.
        schedule: what multiplies the learning rate, step by step.
        warmup: epochs over which the learning rate first rises from zero, in equal steps.
        clip: the largest norm of the whole gradient; 0 leaves it as it is.
        retractions: what is done to the weights after every step, in this order.
        average: share of the past in the running mean of weights that is validated and kept; 0
            keeps the weights themselves.
        precision: what matrix products are computed in; weights stay float32.
        recompute: whether layers run again for the gradient instead of being kept in memory.
        seed: of the order of samples, of augmentation and of noise.
        save_every: steps between two saves of the state, beside the one after each epoch.
        log_every: steps between two lines of ``metrics.jsonl``, beside the one of each epoch.
        select: the validation metric that picks the epoch that is deployed: the largest value,
            or the smallest where the name ends in ``loss``.
        tensorboard: whether to draw the lines of ``metrics.jsonl`` as curves, too.
    """

    epochs: int
    batch: int
    optimizer: Optimizer
    schedule: Schedule = Constant()
    warmup: float = 0.0
    clip: float = 0.0
    retractions: tuple[Retraction, ...] = ()
    average: float = 0.0
    precision: Precision = "float32"
    recompute: bool = False
    seed: int = 0
    save_every: int = 500
    log_every: int = 50
    select: str = "accuracy"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "save_every", "log_every"):
            _check(name, getattr(self, name), f"a whole number from 1 to {MOST:,}", _counts)
        _check("seed", self.seed, "a whole number from 0 to below 2**63", _seeds)
        _check("warmup", self.warmup, f"from 0 to below epochs = {self.epochs}", self._fits)
        _check("clip", self.clip, "0 (off) or a positive norm", lambda v: 0 <= v < math.inf)
        _check("average", self.average, "from 0 (off) to below 1, such as 0.99", _fraction)
        names = ("float32", "bfloat16", "float16")
        _check("precision", self.precision, f"one of {', '.join(names)}", names.__contains__)

    def _fits(self, warmup: float) -> bool:
        return 0 <= warmup < self.epochs


def _check(name: str, value: Any, rule: str, holds: Callable[[Any], bool]) -> None:
    if not holds(value):
        raise Refusal(f"{name} is {short(value)}; it must be {rule}; change {name} in the plan")


def _check_rate(lr: float, weight_decay: float) -> None:
    rule = "above 0 and at most 1e6, such as 0.1 (sgd) or 0.001 (adam)"
    _check("optimizer.lr", lr, rule, lambda v: 0 < v <= 1e6)
    _check("optimizer.weight_decay", weight_decay, "from 0 to below 1", _fraction)


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _fraction(value: float) -> bool:
    return 0 <= value < 1


def _counts(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= MOST


def _seeds(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _two_fractions(values: tuple[float, ...]) -> bool:
    return len(values) == 2 and all(map(_fraction, values))


def _rising(values: tuple[float, ...]) -> bool:
    return 0 < len(values) <= 100 and all(
        low < high <= MOST for low, high in zip((0.0, *values), values, strict=False)
    )
