"""Neurons as values, and the layer that runs them over a whole spike train from rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal, short
from spikeproof.shapes import Folded, Membrane, Train
from spikeproof.spiking._kernels import fire_and_pool, integrate_and_fire
from spikeproof.spiking._memory import note_spikes
from spikeproof.spiking._rules import BPTT, Memory, Rule


@dataclass(frozen=True)
class LIF:
    """A leaky integrate-and-fire neuron: ``u <- tau u + x``, a spike where ``u >= theta``."""

    tau: float = 0.5
    theta: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    rule: Rule = field(default_factory=BPTT)  # the gradient that training uses
    learn_theta: bool = False
    learn_tau: bool = False
    floor: float = 0.03  # of a learned threshold, at every forward pass (paper B)
    kind: Literal["lif", "if"] = "lif"

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise Refusal(
                f"tau is {short(self.tau)}; the leak keeps a share between 0 and 1 of the "
                "membrane; take 1 for no leak (a time constant t in steps is tau = 1 - 1/t)"
            )
        if self.kind == "if" and self.tau != 1:
            raise Refusal(f"tau is {self.tau}; a neuron of kind 'if' has no leak; take kind 'lif'")
        if not 1e6 >= self.theta >= self.floor >= 1e-6:
            raise Refusal(
                f"theta is {short(self.theta)} and floor {short(self.floor)}; a threshold lies "
                "between its floor and 1e6, the floor at 1e-6 or more; take theta 1.0, floor 0.03"
            )
        if self.reset not in ("hard", "soft"):
            raise Refusal(f"reset is {self.reset!r}; it is 'hard' or 'soft'; choose one")


@dataclass(frozen=True)
class IF(LIF):
    """An integrate-and-fire neuron: LIF without leak."""

    tau: float = 1.0
    kind: Literal["lif", "if"] = "if"


class Spiking(nn.Module):
    """A layer of neurons: currents of T steps to spikes of T steps, starting at rest.

    Time is folded into the batch, (T*B, *F). The layer that ``opens_time`` takes one current per
    sample, (B, *F), and holds it for T steps: what lies before it is computed once.
    """

    def __init__(self, neuron: LIF, steps: int, *, opens_time: bool = False) -> None:
        super().__init__()
        if steps < 1:
            raise Refusal(f"T is {steps}; a spike train has at least one step; take T = 4")
        if neuron.rule.memory() is not None:
            raise Refusal(
                f"{neuron.rule.kind} remembers the steps of an attack; training has none; train "
                "through another rule and view the model through this one (seen_through)"
            )
        self.neuron = neuron
        self.rule: Rule = neuron.rule
        self.T = steps
        self.opens_time = opens_time
        self.memory: Memory | None = None
        self.smooth = False
        self.learned = nn.ParameterDict()
        if neuron.learn_theta:
            self.learned["theta"] = nn.Parameter(torch.tensor(float(neuron.theta)))
        if neuron.learn_tau:
            self.learned["tau"] = nn.Parameter(torch.tensor(float(neuron.tau)))

    @property
    def theta(self) -> Tensor | float:
        """The threshold in force, never below its floor."""
        if "theta" in self.learned:
            return self.learned["theta"].clamp_min(self.neuron.floor)
        return self.neuron.theta

    @property
    def tau(self) -> Tensor | float:
        """The leak in force, never outside 0..1."""
        return self.learned["tau"].clamp(0, 1) if "tau" in self.learned else self.neuron.tau

    def unfolded(self, x: Folded) -> Train:
        """Returns the layer's input as currents over time."""
        if self.opens_time:
            return x.expand(self.T, *x.shape)
        if len(x) % self.T:
            raise Refusal(
                f"a layer of T = {self.T} steps got {len(x)} rows; time is folded into the batch, "
                "so their number is a multiple of T; build or view the model with the T of its "
                "input (over_time)"
            )
        return x.unflatten(0, (self.T, -1))

    def run(self, current: Train, membrane: Membrane | None = None) -> tuple[Train, Membrane]:
        """Returns spikes and membrane; hand the membrane on to continue where this call ended."""
        return self._run(current, membrane, None)

    def _run(
        self, current: Tensor, membrane: Tensor | None, steps: int | None
    ) -> tuple[Tensor, Tensor]:
        return integrate_and_fire(
            current,
            membrane,
            self.theta,
            self.tau,
            hard=self.neuron.reset == "hard",
            rule=self.rule,
            memory=self.memory,
            smooth=self.smooth,
            steps=steps,
        )

    def pooled(self, x: Tensor) -> Folded | None:
        """Returns what a 2x2 average pool makes of the spikes, in one pass; None if it cannot."""
        if self.smooth:
            return None
        means = fire_and_pool(
            self._current(x),
            self.theta,
            self.tau,
            hard=self.neuron.reset == "hard",
            rule=self.rule,
            memory=self.memory,
            steps=self.T,
        )
        return None if means is None else means.flatten(0, 1)

    def _current(self, x: Tensor) -> Tensor:
        return x[None] if self.opens_time else self.unfolded(x)

    @override
    def forward(self, x: Tensor) -> Folded:
        spikes, _ = self._run(self._current(x), None, self.T)
        return spikes.flatten(0, 1) if self.smooth else note_spikes(spikes.flatten(0, 1))

    @override
    def extra_repr(self) -> str:
        said = [name for name in ("opens_time", "smooth") if getattr(self, name)]
        return ", ".join([f"{self.neuron}, T={self.T}", *said])


@torch.no_grad()
def confine(model: nn.Module) -> None:
    """Moves what layers learned to the ends of its range; beyond, no gradient reaches it."""
    for layer in model.modules():
        if isinstance(layer, Spiking) and "theta" in layer.learned:
            layer.learned["theta"].clamp_min_(layer.neuron.floor)
        if isinstance(layer, Spiking) and "tau" in layer.learned:
            layer.learned["tau"].clamp_(0, 1)
