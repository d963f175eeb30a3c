"""Steps of an attack as CUDA graphs: recorded once for a number of rows, then replayed at once.

Small kernels of a small network take less time than their launches; a graph launches them all
together. Its shapes are fixed and the rows of an attack become fewer, so rows are padded up to a
few sizes, and the padding is cut from the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]


class Graphed:
    """A function from tensors to tensors, all with a row for each sample, as graphs on a GPU.

    The function may not depend on values, wait for the device, or hold on to tensors between calls
    (as an adaptive rule's memory does): a graph reads and writes where it did when recorded. On
    the CPU it is called with the padded rows.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.recorded: dict[Any, Function] = {}

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        rows = len(given[0])
        whole = [padded(x, bucket(rows)) for x in given]
        key = tuple((x.shape, x.dtype, x.device) for x in whole)
        if key not in self.recorded:
            gpu = given[0].device.type == "cuda"
            self.recorded[key] = _recorded(self.function, whole) if gpu else self.function
        return tuple(out[:rows].clone() for out in self.recorded[key](*whole))


def bucket(rows: int) -> int:
    """Returns the size that so many rows are padded to: 2, 4, 6, 8, 12, 16, 24, 32, 48, ...

    At least two, as a row alone takes other kernels, and at most a half more than there are.
    """
    size = 2
    while size < rows:
        size = size * 3 // 2 if size & (size - 1) == 0 and size > 2 else _next_power(size)
    return size


def _next_power(size: int) -> int:
    return 1 << size.bit_length()


def padded(x: Tensor, size: int) -> Tensor:
    """Returns the rows with the last one repeated."""
    return x if len(x) == size else torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])


def _recorded(function: Function, given: list[Tensor]) -> Function:
    held = [x.clone() for x in given]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # compiles, and lets libraries choose
            function(*held)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function(*held)

    def replay(*now: Tensor) -> tuple[Tensor, ...]:
        for place, x in zip(held, now, strict=True):
            place.copy_(x)
        graph.replay()
        return found

    return replay
