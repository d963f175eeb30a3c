"""Views: other eyes on the same weights.

A view is a copy of a model's structure whose parameters and buffers are the model's own tensors.
What a view changes (the gradient rule, T, the source of noise, the state at the start) lives in
the copy and dies with it: the model cannot keep a trace of that, whatever happens. What acts on
the shared tensors acts on both: norms in train mode, ``requires_grad_``, casts and moves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.shapes import Folded
from spikeproof.spiking._encoders import Averaged, Direct, Encode
from spikeproof.spiking._gates import Gate
from spikeproof.spiking._network import Analog, SpikingNetwork
from spikeproof.spiking._neurons import Spiking
from spikeproof.spiking._recompute import blocks_of
from spikeproof.spiking._recorder import forget_recorder
from spikeproof.spiking._rules import BPTT, CBA, Memory, Rule

Model = TypeVar("Model", bound=nn.Module)


def seen_through(model: nn.Module, rule: Rule | CBA) -> nn.Module:
    """Returns a view of the model whose backward pass follows ``rule``.

    Its logits are the model's, bit for bit; only ``CBA`` has a forward pass of its own.
    """
    view = _same_weights(model)
    if isinstance(rule, CBA):
        return _analog(view, rule)
    for layer in _neurons(view):
        if layer.smooth:
            raise Refusal(
                f"a smooth network has one true gradient and {rule} is another; "
                "view the model through the rule first, then smooth it"
            )
        layer.rule = rule
        layer.memory = rule.memory()
    return view


def smoothed(model: nn.Module) -> nn.Module:
    """Returns a view that fires the surrogate's primitive: a smooth network, truly differentiable.

    Its reset is differentiated, so its gradient is the derivative of what it computes.
    """
    view = _same_weights(model)
    for layer in _neurons(view):
        if not isinstance(layer.rule, BPTT):
            raise Refusal(
                f"a smooth network needs a surrogate's curve, but the rule is {layer.rule}; "
                "view the model through BPTT first"
            )
        layer.rule, layer.smooth = replace(layer.rule, detach_reset=False), True
    return view


def over_time(model: nn.Module, steps: int) -> nn.Module:
    """Returns a view of the model that runs this many steps."""
    if steps < 1:
        raise Refusal(f"T is {steps}; a spike train has at least one step; take T = 4")
    view = _same_weights(model)
    for part in (*_neurons(view), *_sources(view)):
        part.T = steps
    return view


def drawing_from(model: Model, generator: torch.Generator) -> Model:
    """Returns a view of a stochastic model whose noise comes from ``generator``."""
    view = _same_weights(model)
    for source in _sources(view):
        source.generator = generator
    return view


def recomputed(model: Model) -> Model:
    """Returns a view whose gradients take less memory and more time, and are the same bit for bit.

    Of every block of layers, from one with weights to the next, its backward pass keeps the input
    alone and runs the block again. A block that hooks look into is kept whole.
    """
    view = _same_weights(model)
    networks = [module for module in view.modules() if isinstance(module, SpikingNetwork)]
    if not networks:
        raise Refusal(
            f"{type(model).__name__} holds no SpikingNetwork; blocks to compute again are cut from "
            "its layers; build it with spikeproof.models, or leave recompute out"
        )
    for network in networks:
        blocks_of(network.layers)
        network.recompute = True
    return view


def keep_samples(view: nn.Module, index: Tensor) -> None:
    """Tells an adaptive rule that only these samples go on, in this order."""
    for memory in _memories(view):
        memory.keep(index)


def forget(view: nn.Module) -> None:
    """Clears what an adaptive rule remembers, as a new batch needs."""
    for memory in _memories(view):
        memory.forget()


@contextmanager
def unobserved(view: nn.Module) -> Iterator[None]:
    """Lets an adaptive rule use its memory and not change it: the further draws of an EOT step."""
    memories = list(_memories(view))
    before = [memory.frozen for memory in memories]
    try:
        for memory in memories:
            memory.frozen = True
        yield
    finally:
        for memory, frozen in zip(memories, before, strict=True):
            memory.frozen = frozen


@dataclass(frozen=True, eq=False)
class State:
    """Where a stream stands: how many steps have passed, and every layer's membrane."""

    elapsed: int = 0
    membranes: Mapping[str, Tensor] = field(default_factory=dict)


def stream(
    model: SpikingNetwork, x: Tensor, steps: int, state: State | None = None
) -> tuple[Tensor, State]:
    """Returns the logits of the next ``steps`` steps (steps, B, K), and the state after them.

    Images are given whole at every call, event frames as the part that has arrived. With norms
    in eval mode and no noise of ``drawing_from``, the parts add up to what the whole gives. An
    analog network of events (``Averaged``) has no parts: it needs all frames.
    """
    if steps < 1:
        raise Refusal(f"steps is {steps}; a stream goes on by at least one; take 1")
    state = state or State()
    view = _same_weights(model)
    view.recompute = False  # a layer's state moves once
    stop = state.elapsed + steps
    if view.encode.encoder.events:
        view.encode.T = steps
    elif stop > view.encode.T:
        raise Refusal(
            f"step {stop} of a code of T = {view.encode.T} steps; an encoded image ends there; "
            "view the model with a larger T (over_time)"
        )
    else:
        view.encode.window = slice(state.elapsed, stop)
    after: dict[str, Tensor] = {}
    for gate in _gates(view):
        gate.T, gate.elapsed = steps, state.elapsed
    for layer in _neurons(view):
        layer.T = steps
    _replace(view, lambda name, layer: _Continued(layer, name, state.membranes, after))
    return view.steps(x), State(stop, after)


class _Continued(nn.Module):
    """A layer that starts at the membrane it is given and leaves the one it ends with."""

    def __init__(
        self, layer: Spiking, name: str, before: Mapping[str, Tensor], after: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.layer, self.name, self.before, self.after = layer, name, before, after
        self.uses = 0

    @override
    def forward(self, x: Tensor) -> Folded:
        current = self.layer.unfolded(x)
        self.uses += 1  # a layer that is used twice has two states
        key = self.name if self.uses == 1 else f"{self.name}#{self.uses}"
        spikes, self.after[key] = self.layer.run(current, self.before.get(key))
        return spikes.flatten(0, 1)


def _same_weights(model: Model) -> Model:
    shared = [
        *model.parameters(),
        *model.buffers(),
        *(source.generator for source in _sources(model)),
        *_memories(model),
        # What a hook computes anew at every call, as pruning and weight norm do, is no leaf.
        *(
            value
            for module in model.modules()
            for value in vars(module).values()
            if isinstance(value, Tensor) and not value.is_leaf
        ),
    ]
    view = copy.deepcopy(model, {id(thing): thing for thing in shared})
    for module in view.modules():
        forget_recorder(module)
    return view


def _analog(view: nn.Module, rule: CBA) -> nn.Module:
    levels = rule.levels if rule.activation == "clip_floor" else None
    _replace(view, lambda _, layer: Analog(layer, levels))
    for gate in _gates(view):
        gate.T = 1
    for entrance in _entrances(view):
        if not entrance.encoder.analog:
            entrance.mean, entrance.std = (
                torch.zeros_like(entrance.mean),
                torch.ones_like(entrance.std),
            )
        entrance.encoder = Averaged() if entrance.encoder.events else Direct()
        entrance.T = 1
    return view


def _replace(view: nn.Module, make: Callable[[str, Spiking], nn.Module]) -> None:
    made: dict[Spiking, nn.Module] = {}
    for name, layer in _named_neurons(view):
        if not name:
            raise Refusal(
                "the model is a single layer of neurons; this view replaces layers inside a "
                "network; put it into an nn.Sequential"
            )
        if layer not in made:
            made[layer] = make(name, layer)
        view.set_submodule(name, made[layer])


def _neurons(view: nn.Module) -> list[Spiking]:
    return [layer for _, layer in _named_neurons(view)]


def _named_neurons(view: nn.Module) -> list[tuple[str, Spiking]]:
    analog = {id(m.neurons) for m in view.modules() if isinstance(m, Analog)}
    layers = [  # under all its names, where a layer has several
        (name, module)
        for name, module in view.named_modules(remove_duplicate=False)
        if isinstance(module, Spiking) and id(module) not in analog
    ]
    if not layers:
        raise Refusal(
            f"{type(view).__name__} has no layer of spikeproof's neurons; a gradient rule, T and "
            "state belong to those; build it with spikeproof.models or spikeproof.spiking.Spiking"
        )
    return layers


def _entrances(view: nn.Module) -> list[Encode]:
    return [module for module in view.modules() if isinstance(module, Encode)]


def _gates(view: nn.Module) -> list[Gate]:
    return [module for module in view.modules() if isinstance(module, Gate)]


def _sources(view: nn.Module) -> list[Encode | Gate]:
    """Returns what may draw noise."""
    return [*_entrances(view), *_gates(view)]


def _memories(view: nn.Module) -> Iterator[Memory]:
    return (m.memory for m in view.modules() if isinstance(m, Spiking) and m.memory is not None)
