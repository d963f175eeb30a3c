"""Neurons of others, step by step: their dynamics forwards, a gradient rule backwards.

A foreign neuron is two functions, ``charge`` and ``reset``. Between them a spike fires where the
membrane reaches the threshold, and only there a rule decides on the gradient. Rules want whole
trains, and a network may call its neurons once a step; so a trail keeps what they did, and the
slopes of all steps are worked out when the call ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.spiking import BPTT, LIF, Rule, Spiking, Trace, integrate_and_fire

if TYPE_CHECKING:
    from spikeproof.interop._sewing import Sewing

State = tuple[Tensor | None, ...]
Mark = tuple[int, ...]

HOOKS = [
    f"_{when}{what}"
    for when in ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")
    for what in ("", "_with_kwargs", "_always_called")
    if f"_{when}{what}" in vars(nn.Module())
]
HOOKS.append("_is_full_backward_hook")


@runtime_checkable
class Neuron(Protocol):
    """What a neuron written by hand has: two methods.

    ``charge`` takes the current (B, *F) of a step and the state after the step before, ``None`` at
    rest; it returns how far the membrane is above its threshold, and the state so far. A spike
    fires where that is 0 or more (above 0 where an attribute ``strict`` is true). ``reset`` takes
    the spikes and that state, and returns the state after the step, a tuple of tensors.
    """

    def charge(self, current: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the membrane's distance above the threshold, and the state before the reset."""

    def reset(self, spikes: Tensor, state: State) -> State:
        """Returns the state after the step."""


class Trail:
    """What the steps of one train leave for a rule."""

    def __init__(self, layer: Stepped) -> None:
        self.layer, self.rule, self.memory = layer, layer.rule, layer.memory
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self._slopes: Tensor | None = None

    def slope(self, number: int) -> Tensor:
        """Returns the factor of the gradient of the spikes of this step."""
        if self._slopes is None:
            self._slopes = self.rule.slopes(measured(self.layer, self.steps), self.memory)
            self.steps.clear()
        return self._slopes[number if len(self._slopes) > 1 else 0]


SETTINGS = ("theta", "tau", "gain")


class _Measured(Trace):
    """A trace whose distances are those that decided the spikes, not rounded again."""

    def __init__(self, *values: Any) -> None:
        *given, distance = values
        super().__init__(*given)
        object.__setattr__(self, "measured", distance)

    @property
    @override
    def distance(self) -> Tensor:
        distance: Tensor = vars(self)["measured"]
        return distance


def measured(layer: Stepped, steps: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Trace:
    """Returns the trace of steps: their currents, distances from the threshold, and spikes."""
    current, distance, spikes = (torch.stack(x).detach() for x in zip(*steps, strict=True))
    theta, tau, gain = (_plain(getattr(layer.neurons, name, 1.0)) for name in SETTINGS)
    return _Measured(gain * current, distance + theta, spikes, theta, tau, distance)


class Stepped(Spiking):
    """A layer of foreign neurons: whole trains (T*B, *F), or one step where T is 1.

    ``state`` is where the train begins and, afterwards, where it ended; ``None`` is rest.
    """

    def __init__(self, neurons: Any, rule: Rule) -> None:
        super().__init__(LIF(rule=rule), 1)
        self.neurons = neurons
        self.whole = False  # a call is a train from rest to its end
        self.state: State | None = None
        self.trail: Trail | None = None
        self.open: list[Trail] = []
        self.sewing: Sewing | None = None

    @property
    @override
    def theta(self) -> Tensor | float:
        """The constant current that takes the membrane to its threshold in one step."""
        theta, gain = (_plain(getattr(self.neurons, name, 1.0)) for name in ("theta", "gain"))
        return theta / gain

    @property
    @override
    def tau(self) -> Tensor | float:
        return _plain(getattr(self.neurons, "tau", 1.0))

    @override
    def forward(self, x: Tensor) -> Tensor:
        current = x.unflatten(0, (self.T, -1))
        same = getattr(self.neurons, "same_as_ours", lambda: None)()
        if self.whole and self.state is None and same is not None:
            theta, tau, hard = same
            spikes, after = integrate_and_fire(
                current,
                None,
                theta,
                tau,
                hard=hard,
                rule=self.rule,
                memory=self.memory,
                smooth=self.smooth,
            )
            self.state = (after,)
            return spikes.flatten(0, 1)
        if self.rule.averaged and self.whole and current.requires_grad:
            current = current.view_as(current)
            current.register_hook(lambda d: d.mean(0, keepdim=True).expand_as(d))
        return torch.stack([self._step(x) for x in current]).flatten(0, 1)

    def finish(self) -> None:
        """Works out the slopes of what has been run."""
        for trail in self.open:
            trail.slope(0)

    def forget(self) -> None:
        """Goes back to rest."""
        self.state, self.trail, self.open = None, None, []

    def _step(self, current: Tensor) -> Tensor:
        if self.trail is None or self.state is None:
            self.trail = Trail(self)
        rule = self.rule
        before = self.state if rule.temporal else _detached(self.state)
        distance, charged = self.neurons.charge(current, before)
        tracked = torch.is_grad_enabled() and distance.requires_grad
        if tracked and rule.averaged and not self.whole:
            spikes = self._cut(current, distance)
        elif tracked:
            spikes = fire(distance, current.detach(), self.trail)
        else:
            spikes = self.fires(distance)
        through = rule.temporal and not rule.detach_reset
        self.state = self.neurons.reset(spikes if through else spikes.detach(), charged)
        return spikes

    def fires(self, distance: Tensor) -> Tensor:
        """Returns the spikes of membranes this far above the threshold."""
        if self.smooth and isinstance(self.rule, BPTT):
            return self.rule.surrogate.primitive(distance)
        above = distance > 0 if getattr(self.neurons, "strict", False) else distance >= 0
        return above.to(distance.dtype)

    def _cut(self, current: Tensor, distance: Tensor) -> Tensor:
        if self.sewing is None:
            raise Refusal(
                f"{self.rule.kind} averages gradients over the steps of a train, and the network "
                "calls its neurons once a step; only what adopt returns can do that; call it"
            )
        return self.sewing.cut(self, current, distance)

    @override
    def extra_repr(self) -> str:
        return f"{type(self.neurons).__name__}, {self.rule}"


def fire(distance: Tensor, current: Tensor, trail: Trail) -> Tensor:
    """Returns spikes whose gradient is the rule's; the trail keeps what it wants to know."""
    if not trail.steps:
        trail.layer.open.append(trail)
    return _Fire.apply(distance, current, trail)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, current: Tensor, trail: Trail) -> Tensor:
        spikes = trail.layer.fires(distance)
        ctx.trail, ctx.number = trail, len(trail.steps)
        trail.steps.append((current, distance.detach(), spikes))
        return spikes

    @staticmethod
    def backward(ctx: Any, d_spikes: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():
            raise Refusal(
                "create_graph=True reached a layer of spikes; their gradient is chosen and has no "
                "derivative; compare two forward passes, or use create_graph=False"
            )
        return ctx.trail.slope(ctx.number) * d_spikes, None, None


def _detached(state: State | None) -> State | None:
    return state and tuple(None if part is None else part.detach() for part in state)


def _mark(seen: Any) -> Mark:
    """Returns what tells a state from another: the tensors that it is made of."""
    return tuple(map(id, seen)) if isinstance(seen, tuple) else (id(seen),)


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _empty(kind: type[Standing]) -> Standing:
    """Returns what a copy begins with; how it says that it is of another kind misleads pickle."""
    return kind.__new__(kind)


class Standing(nn.Module):
    """Stands where ``theirs`` stood; whatever it has no name for is asked of it, or set in it."""

    own: frozenset[str] = frozenset(("theirs", "training"))

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.theirs = theirs
        self.training = theirs.training

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Its kind, for a network that asks which of its layers are neurons."""
        theirs = vars(self).get("_modules", {}).get("theirs")
        return type(self) if theirs is None else type(theirs)

    @override
    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (type(self),), vars(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name in self.own:
                raise
            return getattr(self.theirs, name)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        theirs = vars(self).get("_modules", {}).get("theirs")
        if theirs is None or name in self.own or not hasattr(theirs, name):
            super().__setattr__(name, value)
        else:
            setattr(theirs, name, value)


class Adapter(Standing):
    """Takes the place of a foreign neuron: its interface and state outside, ``ours`` inside.

    ``theirs`` keeps parameters, settings and state, so that whatever the network does with them
    works as before. ``trains`` are the states as the network sees them: where one comes back, its
    train goes on, and anything else begins a new one.
    """

    own = Standing.own | {"ours", "trains"}

    def __init__(self, theirs: nn.Module, neurons: Any, rule: Rule) -> None:
        super().__init__(theirs)
        self.ours = Stepped(neurons, rule)
        self.trains: dict[Mark, tuple[Any, State | None, Trail | None]] = {}
        for name in HOOKS:
            vars(self)[name] = vars(theirs)[name]

    def fire(self, x: Tensor, seen: Any, start: State | None, *, whole: bool) -> Tensor:
        """Returns the spikes of a train (T, B, *F) or, where it is not ``whole``, of a step."""
        layer = self.ours
        if not isinstance(layer, Stepped):  # the analog twin has no state
            return layer(x)
        _, layer.state, layer.trail = self.trains.pop(_mark(seen), (None, start, None))
        layer.whole, layer.T = whole, len(x) if whole else 1
        return layer(x.flatten(0, 1)).unflatten(0, (len(x), -1)) if whole else layer(x)

    def ended(self, x: Tensor) -> State:
        """Returns the state after ``fire``."""
        if isinstance(self.ours, Stepped) and self.ours.state is not None:
            return self.ours.state
        state: State = self.of_analog().charge(x, None)[1]
        return state

    def of_analog(self) -> Any:
        """Returns the dynamics of a layer that a view has replaced by its analog twin."""
        layer = self.ours.neurons
        return layer.neurons if isinstance(layer, Stepped) else layer

    def showed(self, seen: Any) -> None:
        """Remembers which state the network now sees."""
        if isinstance(self.ours, Stepped):
            self.trains[_mark(seen)] = (seen, self.ours.state, self.ours.trail)

    def rest(self) -> None:
        """Forgets what was before."""
        self.trains = {}
        if isinstance(self.ours, Stepped):
            self.ours.forget()
