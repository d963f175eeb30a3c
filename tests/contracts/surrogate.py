"""What every surrogate curve owes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from spikeproof.spiking import Exponential, StraightThrough, Surrogate


def _mass(surrogate: Surrogate) -> float:
    match surrogate:
        case StraightThrough():
            return math.inf
        case Exponential(a=a, beta=beta):
            return 2 * a / beta
        case _:
            return 1.0


def assert_surrogate(surrogate: Surrogate) -> None:
    """A value; even, finite, never negative; its primitive, height and widths tell the truth."""
    assert dataclasses.replace(surrogate) == surrogate
    assert hash(dataclasses.replace(surrogate)) == hash(surrogate)
    _assert_shape(surrogate)
    _assert_primitive(surrogate)
    if math.isinf(_mass(surrogate)):
        assert math.isinf(surrogate.half_mass_width)
    else:
        _assert_widths(surrogate)


def _assert_shape(surrogate: Surrogate) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        u = torch.tensor([0, 1e-3, 0.1, 0.3, 0.7, 1.3, 4, 50, 1e4, 1e30], dtype=dtype)
        right, left = surrogate.slope(u), surrogate.slope(-u)
        assert right.dtype == dtype
        assert right.shape == u.shape
        assert torch.isfinite(right).all()
        assert (right >= 0).all()
        torch.testing.assert_close(right, left)
        assert (right.diff() <= 1e-6).all(), "it rises away from the threshold"
    top = surrogate.slope(torch.zeros((), dtype=torch.float64)).item()
    assert math.isclose(top, surrogate.height, rel_tol=1e-12)


def _assert_primitive(surrogate: Surrogate) -> None:
    u = torch.linspace(-5.003, 4.991, 997, dtype=torch.float64)  # misses every kink
    h = 1e-6
    numeric = (surrogate.primitive(u + h) - surrogate.primitive(u - h)) / (2 * h)
    torch.testing.assert_close(numeric, surrogate.slope(u), rtol=1e-5, atol=1e-7)
    mass = _mass(surrogate)
    middle = surrogate.primitive(torch.zeros((), dtype=torch.float64)).item()
    assert math.isclose(middle, 0.5 if math.isinf(mass) else mass / 2, rel_tol=1e-12)
    if not math.isinf(mass):
        far = surrogate.primitive(torch.tensor([-1e9, 1e9], dtype=torch.float64))
        torch.testing.assert_close(far, far.new_tensor([0.0, mass]), rtol=1e-8, atol=1e-8)


def _integral(surrogate: Surrogate, reach: float) -> float:
    """The slope's integral over |u| <= reach by the midpoint rule, fine near the threshold."""
    edges = reach * np.sinh(np.linspace(-24, 24, 400_001)) / np.sinh(24)
    middles = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
    return float((surrogate.slope(middles).numpy() * np.diff(edges)).sum())


def _assert_widths(surrogate: Surrogate) -> None:
    mass = _mass(surrogate)
    total = _integral(surrogate, 1e6)
    assert math.isclose(total, mass, rel_tol=1e-4), f"integral {total}, stated {mass}"
    assert surrogate.half_width(0.0) == 0
    widths = [surrogate.half_width(share) for share in (0.05, 0.3, 0.5, 0.85, 0.98)]
    assert widths == sorted(widths)
    for share, width in zip((0.05, 0.3, 0.5, 0.85, 0.98), widths, strict=True):
        inside = _integral(surrogate, width)
        assert math.isclose(inside, share * mass, rel_tol=1e-4), f"{share}: {inside}"
    assert math.isclose(surrogate.half_mass_width, 2 * surrogate.half_width(0.5))
