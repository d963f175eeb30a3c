"""A suite: a named sequence of steps, from the cheap to the expensive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import override

from spikeproof.attacks import DLR, Attack, Loss, Margin, Search, Standing, Threat
from spikeproof.errors import Refusal

Proposal = Callable[[nn.Module, Tensor, Tensor, Threat], Tensor]
Source = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Adaptive(Search):
    """An attack of your own, written against ``Standing`` like every search of ours.

    The name of ``function`` seeds its noise and is what the record says, so it should have one.
    """

    function: Callable[[Standing], None]
    kind: str = "adaptive"
    fits: ClassVar[tuple[type[Threat], ...]] = (Threat,)

    @override
    def __call__(self, s: Standing) -> None:
        self.function(s)

    @override
    def __repr__(self) -> str:
        return f"Adaptive({plain(self.function)})"


@dataclass(frozen=True)
class Step:
    """One attack of a suite.

    It meets the samples that still stand; with ``everyone``, all that were right when clean, as
    baselines need. A step with a ``threat`` of its own measures a curve: it meets everyone and
    removes nobody. ``limit`` keeps it to the first samples. ``source`` makes of the model the
    network whose gradient is followed. ``attack`` may be a function ``(model, x, y, threat)`` that
    returns what it proposes for each sample.
    """

    id: str
    attack: Attack | Proposal
    everyone: bool = False
    limit: int = 0
    threat: Threat | None = None
    source: Source | None = None

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise Refusal("a step has no id; records and comparisons name it; give it one")
        if self.limit < 0:
            raise Refusal(f"step {self.id} has the limit {self.limit}; take 0 for all samples")

    @property
    def counts(self) -> bool:
        """Whether what it breaks is broken for the suite."""
        return self.threat is None


@dataclass(frozen=True)
class Suite:
    """Steps in the order in which they are run."""

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        ids = [step.id for step in self.steps]
        if not any(step.counts for step in self.steps):
            raise Refusal(f"suite {self.name!r} has no attack that counts; add a step")
        if doubled := sorted({i for i in ids if ids.count(i) > 1}):
            raise Refusal(
                f"suite {self.name!r} has several steps {doubled[0]!r}; rename all but one"
            )

    def check(self, threat: Threat) -> None:
        """Refuses a step whose search cannot move within its threat."""
        for step in self.steps:
            met = step.threat or threat
            if isinstance(step.attack, Attack) and not isinstance(met, step.attack.search.fits):
                raise Refusal(
                    f"step {step.id} searches with {step.attack.search.kind}, which does not fit "
                    f"the threat {met}; choose another search or another threat"
                )


def ratio(classes: int) -> Loss:
    """Returns the loss that no scale of logits masks; of two classes it would be a constant."""
    return DLR() if classes > 2 else Margin()


def before_audits(steps: Sequence[Step], more: Sequence[Step]) -> tuple[Step, ...]:
    """Returns the steps with more of them put before those that meet the first samples alone."""
    at = next((i for i, step in enumerate(steps) if step.limit), len(steps))
    return (*steps[:at], *more, *steps[at:])


def plain(thing: Any) -> Any:
    """Returns the plain values that a record keeps of a step, a suite, an attack or a threat."""
    if dataclasses.is_dataclass(thing):
        return {f.name: plain(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    if isinstance(thing, tuple):
        return [plain(item) for item in thing]
    if callable(thing):
        module = getattr(thing, "__module__", type(thing).__module__)
        return f"{module}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"
    return thing
