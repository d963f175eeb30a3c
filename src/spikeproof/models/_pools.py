"""Average pooling that keeps nothing for its backward pass but a shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


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
