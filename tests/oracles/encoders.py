"""Encoders pixel by pixel: plain Python."""

from __future__ import annotations

import math


def phase(pixel: int, steps: int, bits: int = 8) -> str:
    """The binary digits of a grey level, most significant first, repeated."""
    digits = format(pixel, f"0{bits}b")
    return "".join(digits[t % bits] for t in range(steps))


def phase_weights(steps: int, bits: int = 8) -> list[float]:
    return [1 / 2 ** (1 + t % bits) for t in range(steps)]


def rate_count(numerator: int, denominator: int, steps: int) -> int:
    """``floor(T x)`` in exact integers."""
    return steps * numerator // denominator


def latency_time(x: float, steps: int) -> int:
    """The step of the only spike: bright first."""
    late = (steps - 1) * (1 - x)
    below = math.floor(late)
    rest = late - below
    if rest == 0.5:
        return below if below % 2 == 0 else below + 1
    return below if rest < 0.5 else below + 1


def latency_slope(x: float, steps: int) -> list[float]:
    """``ds_t/dx``: a spike one step earlier minus one later, per change of x that moves it so."""
    slope = [0.0] * steps
    if steps == 1:
        return slope
    time = latency_time(x, steps)
    earlier, later = max(time - 1, 0), min(time + 1, steps - 1)
    per_step = (steps - 1) / (later - earlier)
    slope[earlier] += per_step
    slope[later] -= per_step
    return slope
