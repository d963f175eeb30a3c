"""The proof that two networks answer alike, and which layer does not where they do not."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof.errors import Refusal
from spikeproof.interop import _snntorch
from spikeproof.seeding import isolated

TABLES = (list, dict, set, deque)
Call = tuple[str, Tensor]  # of a layer: its name and what it answered


class Silent(Refusal):
    """The network itself does not answer, with whatever neurons."""


@dataclass(frozen=True)
class Proof:
    """On how many samples the logits agree, how far they are apart, and what remembers."""

    samples: int
    apart: float
    leftover: tuple[str, ...]


def relax(module: nn.Module) -> None:
    """Puts a stateful module of another framework to rest; others are left alone."""
    memory: Any = module
    if hasattr(module, "_memories"):
        memory.reset()
    elif any(kind.__module__.partition(".")[0] == "snntorch" for kind in type(module).__mro__):
        _snntorch.relax(module)


def prove(
    model: nn.Module,
    other: nn.Module,
    names: Sequence[str],
    probes: Sequence[Tensor],
    tolerance: float,
) -> Proof:
    """Compares the logits of both on these batches, in eval mode and from rest.

    ``names`` are the layers of neurons of the model; it is left as it was found.
    """
    if not probes or not all(len(x) for x in probes):
        raise Refusal("no samples to compare logits on; a proof needs some; give a batch")
    apart, leftover = 0.0, set[str]()
    with _evaluating(model), _evaluating(other), torch.no_grad(), _Held(model) as held:
        for x in probes:
            held.relax()
            expected, calls = _asked(model, names, x)
            remembering = [name for name in names if _remembers(model.get_submodule(name))]
            again, _ = _observed(model, names, x)
            if not _same(expected, again):
                leftover.update(remembering)
            apart = max(apart, _compared(expected, calls, other, names, x, tolerance))
    told = tuple(name or "the model" for name in names if name in leftover)
    return Proof(sum(len(x) for x in probes), apart, told)


def _asked(model: nn.Module, names: Sequence[str], x: Tensor) -> tuple[Tensor, list[Call]]:
    try:
        return _observed(model, names, x)
    except Refusal:
        raise
    except Exception as error:  # noqa: BLE001  a network of anybody's may raise anything
        raise Silent(
            f"{type(model).__name__} fails in eval mode on samples of shape {tuple(x.shape[1:])} "
            f"({type(error).__name__}: {error}); it must answer before it is adopted; mend it, or "
            "name the data that it was made for"
        ) from None


def _compared(
    expected: Tensor,
    calls: list[Call],
    other: nn.Module,
    names: Sequence[str],
    x: Tensor,
    tolerance: float,
) -> float:
    inner: Any = other
    try:
        found, theirs = _observed(other, names, x, inner.net)
        again, _ = _observed(other, names, x, inner.net)
    except Exception as error:  # noqa: BLE001  a network of anybody's may raise anything
        raise Refusal(
            f"with our neurons in it the network fails ({type(error).__name__}: {error}); it uses "
            "them in a way that is not known; give its neurons the two methods of Neuron"
        ) from None
    if not _same(found, again):
        raise Refusal(
            "a copy of the network answers differently the second time; something remembers that "
            "is no neuron of a known kind; reset it in forward"
        )
    apart = float((expected - found).abs().nan_to_num(torch.inf).max())
    if _same(expected, found):
        return 0.0
    if found.shape == expected.shape and apart <= tolerance * float(expected.abs().max()):
        return apart
    pairs = zip(calls, theirs, strict=False)
    wrong = next((a[0] for a, b in pairs if a[0] != b[0] or not _same(a[1], b[1])), None)
    layer = "no layer of neurons" if wrong is None else f"layer {wrong or 'the model'}"
    raise Refusal(
        f"with our neurons in it the network's logits differ by {apart:.3g}, and {layer} is the "
        "first to differ; only a network that answers the same is adopted; use lend, or evaluate "
        "it with the gradient it has"
    )


def _observed(
    model: nn.Module, names: Sequence[str], x: Tensor, inside: nn.Module | None = None
) -> tuple[Tensor, list[Call]]:
    """Returns the logits, and what the layers of neurons answered, call by call."""
    calls: list[Call] = []

    def note(name: str, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            calls.append((name, first))

    with ExitStack() as hooks, isolated(0):
        for layer, name in {(inside or model).get_submodule(name): name for name in names}.items():
            handle = layer.register_forward_hook(lambda _, __, out, name=name: note(name, out))
            hooks.callback(handle.remove)
        logits = model(x)
    if not isinstance(logits, Tensor):
        raise Silent(
            f"{type(model).__name__} returns a {type(logits).__name__}; an evaluation needs one "
            "tensor of logits (B, K); return it from a module around the network"
        )
    return logits, calls


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _remembers(layer: nn.Module) -> bool:
    """Returns whether a layer is not at rest."""
    held = [*vars(layer).get("_memories", {}).values(), *vars(layer).values()]
    held += [value for name, value in layer.named_buffers() if name in ("mem", "syn", "spk")]
    return any(isinstance(value, Tensor) and bool((value != 0).any()) for value in held)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _within(values: Iterable[Any]) -> Iterator[Any]:
    """Yields these values and what they hold, at any depth; what a module holds is its own."""
    seen, left = set[int](), [*values]
    while left:
        value = left.pop()
        if id(value) not in seen:
            seen.add(id(value))
            yield value
            if isinstance(value, (*TABLES, tuple)):
                left += value.values() if isinstance(value, dict) else value


class _Held:
    """What all modules hold, given back as it was found."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.found = [(vars(module), dict(vars(module))) for module in model.modules()]
        values = [*_within(found for _, found in self.found)]
        self.tables = [(table, copy.copy(table)) for table in values if isinstance(table, TABLES)]
        tensors = [x for x in values if isinstance(x, Tensor) and not isinstance(x, nn.Parameter)]
        self.numbers = [(x, x.detach().clone()) for x in tensors]
        self.arrays = [(x, x.copy()) for x in values if isinstance(x, np.ndarray)]
        self.sources = [
            (source, source.get_state()) for source in values if isinstance(source, torch.Generator)
        ]

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        for now, before in self.found:
            now.clear()
            now.update(before)
        for table, entries in self.tables:
            table.clear()
            table.extend(entries) if isinstance(table, list | deque) else table.update(entries)
        for x, before_it in self.numbers:
            if not _same(x, before_it):
                x.copy_(before_it)
        for array, was in self.arrays:
            array[...] = was
        for source, state in self.sources:
            source.set_state(state)

    def relax(self) -> None:
        """Puts the model to rest; a neuron written by hand, to where it was found."""
        self.__exit__()
        for module in self.model.modules():
            relax(module)
