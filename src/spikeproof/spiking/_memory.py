"""What is kept in memory: freed blocks by the C library, and spikes for a backward pass."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 1 << 30

_spikes: WeakValueDictionary[tuple[int, int, int], Tensor] = WeakValueDictionary()


def keep_large_blocks() -> bool:
    """Lets the process keep freed blocks below 1 GiB, and returns whether it will.

    By default glibc takes every block of 32 MiB or more fresh from the kernel, which fills it
    with zeros page by page: writing it costs several times what writing an old one does. The
    price is that memory once used stays with the process. It serves the whole process, so a
    library does not ask for it by itself: the command line does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    never = -1
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST) and libc.mallopt(M_TRIM_THRESHOLD, never))


def note_spikes(spikes: Tensor) -> Tensor:
    """Returns a tensor of zeros and ones, which ``spikes_kept_small`` will know while it lives."""
    if spikes.requires_grad:
        _spikes[_mark(spikes)] = spikes
    return spikes


@contextmanager
def spikes_kept_small() -> Iterator[None]:
    """Keeps spikes in one byte each for the backward pass of what is computed in the block.

    The layers after neurons would keep them in four. What is computed does not change, unless
    spikes are written to behind autograd's back (through ``data`` or an array of NumPy's). Hooks
    that somebody else has set, as checkpoints do, are left alone.
    """
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    top = torch._C._autograd._top_saved_tensors_default_hooks
    hooked = top(True) is not None  # noqa: FBT003  it takes no names
    if transformed or hooked or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
        yield


def _mark(x: Tensor) -> tuple[int, int, int]:
    return x.data_ptr(), x._version, x.numel()  # written to, it has another version


def _pack(x: Tensor) -> tuple[Tensor, int | torch.dtype]:
    if x.numel() and x.layout == torch.strided and _mark(x) in _spikes:
        return x.bool(), x.dtype
    return x.detach(), x._version  # an output that its own node keeps would never be freed


def _unpack(kept: tuple[Tensor, int | torch.dtype]) -> Tensor:
    x, what = kept
    if isinstance(what, torch.dtype):
        return x.to(what)
    if x._version != what:  # a pack hook takes this check out of autograd's hands
        raise RuntimeError(
            "a tensor that a backward pass needs has been modified by an inplace operation"
        )
    return x
