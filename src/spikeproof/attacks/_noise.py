"""Random numbers that are a function of a sample's seed and of a counter, and of nothing else.

A generator per batch would tie a sample's noise to its neighbours; a generator per sample would
cost a Python loop. Hashing does neither, and gives the same numbers on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)


def uniform(seeds: Tensor, counter: int, shape: tuple[int, ...]) -> Tensor:
    """Returns (B, *shape) numbers in [0, 1): one stream per seed, told apart by the counter."""
    size = math.prod(shape)
    place = torch.arange(1, size + 1, device=seeds.device, dtype=torch.int64)
    turn = torch.tensor(counter + 1, device=seeds.device) * GOLDEN  # int64 products wrap
    stream = _mixed(seeds + turn)
    bits = _mixed(stream[:, None] + GOLDEN * place)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32).mul(2.0**-24).reshape(len(seeds), *shape)


def normal(seeds: Tensor, counter: int, shape: tuple[int, ...]) -> Tensor:
    """Returns (B, *shape) standard normal numbers, by the transform of Box and Muller."""
    radius, angle = uniform(seeds, counter, (2, *shape)).unbind(1)
    return (-2 * torch.log(1 - radius)).sqrt() * torch.cos(2 * math.pi * angle)


def _mixed(z: Tensor) -> Tensor:
    # The finalizer of splitmix64 (Steele et al., 2014); shifts are logical, products wrap.
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)
