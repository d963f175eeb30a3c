"""Layers run in blocks that keep only their input, and run again when the gradient needs them.

A block begins at a layer with weights and ends before the next one. Its second run gives the bits
of the first: norms are in their mode and count a batch once, gates draw the noise they drew, and
an adaptive rule remembers a pass once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from spikeproof.errors import Refusal
from spikeproof.spiking._gates import Gate
from spikeproof.spiking._kernels import CHOSEN, kernel
from spikeproof.spiking._neurons import Spiking
from spikeproof.spiking._pools import in_turn

Kept = list[tuple[dict[str, Any], dict[str, Any]]]  # attributes, and what they were


def run_in_blocks(layers: nn.Module, x: Tensor) -> Tensor:
    """Returns what the layers make of ``x``; for the gradient it holds the inputs of blocks."""
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    hooked = layers._forward_hooks or layers._forward_pre_hooks
    if not torch.is_grad_enabled() or transformed or hooked or torch.compiler.is_compiling():
        return in_turn(layers, x)
    for block in blocks_of(layers):
        x = in_turn(block, x) if _is_kept(block) else _run_again_later(block, x)
    return x


def blocks_of(layers: nn.Module) -> list[nn.Sequential]:
    """Returns the layers as blocks, each of which begins at a layer with weights."""
    if not isinstance(layers, nn.Sequential) or type(layers).forward is not nn.Sequential.forward:
        raise Refusal(
            f"the layers are a {type(layers).__name__}; blocks to compute again are cut from an "
            "nn.Sequential, whose order is known; make the layers one, or leave recompute out"
        )
    blocks: list[list[nn.Module]] = [[]]
    for layer in layers:
        if any(isinstance(part, nn.Conv2d | nn.Linear) for part in layer.modules()):
            blocks.append([])
        blocks[-1].append(layer)
    return [nn.Sequential(*block) for block in blocks if block]


def _is_kept(block: nn.Module) -> bool:
    """Returns whether a block has no neurons, or somebody watches it, who is to see it run once."""
    parts = list(block.modules())
    return not any(isinstance(part, Spiking) for part in parts) or any(map(_is_watched, parts))


def _is_watched(part: nn.Module) -> bool:
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
    # Hooks that only choose a norm's statistics are left out: these are brought back.
    return any(not getattr(hook, "statistics_only", False) for hook in hooks)


def _run_again_later(block: nn.Sequential, x: Tensor) -> Tensor:
    parts = list(block.modules())
    norms = [part for part in parts if isinstance(part, _NormBase)]
    fixed = {
        name: (tensor, tensor._version)
        for name, tensor in (*block.named_parameters(), *block.named_buffers())
        if not any(tensor is buffer for norm in norms for buffer in norm.buffers(recurse=False))
    }
    kept = _attributes(parts)
    states = [(g, g.get_state()) for g in _generators(parts)]
    name_of_kernel = CHOSEN[0]
    out: Any = checkpoint(
        in_turn,
        block,
        x,
        use_reentrant=False,
        preserve_rng_state=block.training,  # a layer may draw from torch's own generator
        context_fn=lambda: (nullcontext(), _AsItWas(kept, states, fixed, name_of_kernel)),
    )
    for name, (tensor, version) in fixed.items():
        if tensor._version != version:
            raise Refusal(
                f"a layer changes its tensor {name} when it runs; a second run would not give the "
                "bits of the first; leave recompute out"
            )
    kept += _statistics(norms)  # a hook may have set them
    return out


def _attributes(parts: list[nn.Module]) -> Kept:
    kept: Kept = [(vars(part), {"training": part.training}) for part in parts]
    for part in parts:
        if isinstance(part, Spiking) and part.memory is not None:
            kept.append((vars(part.memory), dict(vars(part.memory))))
        elif isinstance(part, Gate):
            kept.append((vars(part), {"seeds": part.seeds, "generator": part.generator}))
    return kept


def _statistics(norms: list[_NormBase]) -> Kept:
    kept: Kept = [(vars(norm), {"_forward_pre_hooks": OrderedDict()}) for norm in norms]
    for norm in norms:
        was = {n: None if x is None else x.detach().clone() for n, x in norm._buffers.items()}
        kept.append((norm._buffers, was))
    return kept


def _generators(parts: list[nn.Module]) -> list[torch.Generator]:
    gates = (part for part in parts if isinstance(part, Gate))
    return list({id(g): g for gate in gates if (g := gate.generator) is not None}.values())


@dataclass
class _AsItWas:
    """Brings back what a block had when it ran; entered once for each backward pass through it."""

    kept: Kept
    states: list[tuple[torch.Generator, Tensor]]
    fixed: Mapping[str, tuple[Tensor, int]]
    kernel: str
    back: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> None:
        for name, (tensor, version) in self.fixed.items():
            if tensor._version != version:
                raise RuntimeError(
                    f"{name}, which a backward pass needs, was modified by an inplace operation"
                )
        self.back.enter_context(kernel(self.kernel))
        for generator, state in self.states:
            self.back.callback(generator.set_state, generator.get_state())
            generator.set_state(state)
        for attributes, was in self.kept:
            self.back.callback(attributes.update, {name: attributes[name] for name in was})
            attributes.update(was)

    def __exit__(self, *_: object) -> None:
        self.back.close()
