"""Average pooling: of any maps, keeping nothing but a shape, and of neurons as they fire."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook
from typing_extensions import override

from spikeproof.spiking._neurons import Spiking


class AvgPool2d(nn.AvgPool2d):
    """The mean of 2x2 places: PyTorch's own, bit for bit, gradient included.

    PyTorch's keeps its whole input only to know how large it was, and writes the gradient of maps
    with channels last twice, the first time as zeros.
    """

    def __init__(self) -> None:
        super().__init__(2)

    @override
    def forward(self, input: Tensor) -> Tensor:
        return _Halved.apply(input) if _serves(input) else super().forward(input)


def _serves(x: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and type(x) is Tensor
        and x.requires_grad
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and x.shape[2] % 2 == x.shape[3] % 2 == 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return functional.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> Tensor:
        return functional.interpolate(d_y * 0.25, ctx.size, mode="nearest")


def in_turn(layers: nn.Module, x: Tensor) -> Tensor:
    """Returns what the layers make of ``x``.

    In a row of layers, neurons and the pool behind them run in one pass over memory, which gives
    the bits of the two, where the kernel serves and no hook of anybody's looks at either.
    """
    traced = type(x) is not Tensor or torch.compiler.is_compiling()
    if type(layers) is not nn.Sequential or traced or _is_changed(layers):
        out: Tensor = layers(x)
        return out
    rest: list[nn.Module] = [*layers]
    while rest:
        layer = rest.pop(0)
        means = _fired_and_pooled(layer, rest[0], x) if rest else None
        if means is not None:
            rest.pop(0)
        x = layer(x) if means is None else means
    return x


def _fired_and_pooled(layer: nn.Module, pool: nn.Module, x: Tensor) -> Tensor | None:
    if type(layer) is not Spiking or type(pool) is not AvgPool2d:
        return None
    return None if _is_changed(layer) or _is_changed(pool) else layer.pooled(x)


def _is_changed(part: nn.Module) -> bool:
    """Returns whether more or something else happens when a part runs than its kind tells."""
    own = (part._forward_hooks, part._forward_pre_hooks)
    back = (part._backward_hooks, part._backward_pre_hooks)
    other = "forward" in vars(part), part._compiled_call_impl is not None
    return any((*own, *back, *other)) or bool(_has_any_global_hook())
