"""The C library's allocator, asked to keep large blocks instead of giving them back."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 1 << 30


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
