"""Gradient rules from their formulas: slow loops over numpy arrays, and a network by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.oracles.lif import layer

Slope = Callable[[np.ndarray], np.ndarray]
Backward = Callable[["Seen", np.ndarray], np.ndarray]


@dataclass
class Seen:
    """What happened in one layer: (T, B, F) or (T, B, C, H, W)."""

    current: np.ndarray
    u: np.ndarray  # before the reset
    s: np.ndarray
    theta: float
    tau: float
    hard: bool


def see(current: np.ndarray, theta: float, tau: float, *, hard: bool) -> Seen:
    s, _, u = layer(current, theta, tau, hard=hard)
    return Seen(current, u, s, theta, tau, hard)


def triangle(x, gamma=1.0):
    return np.maximum(0, gamma - np.abs(x)) / gamma**2


def rectangle(x, width=1.0):
    return np.where(np.abs(x) < width / 2, 1 / width, 0.0)


def exponential(x, a=1.0, beta=2.0):
    return a * np.exp(-beta * np.abs(x))


def straight(x):
    return np.ones_like(x)


def arctan(x, alpha=2.0):
    return (alpha / 2) / (1 + (np.pi * alpha * x / 2) ** 2)


def sigmoid(x, alpha=4.0):
    y = 1 / (1 + np.exp(-alpha * x))
    return alpha * y * (1 - y)


def gaussian(x, alpha=1.0):
    return alpha / math.sqrt(2 * math.pi) * np.exp(-((alpha * x) ** 2) / 2)


def recursion(seen: Seen, e: np.ndarray, g: np.ndarray, *, detach: bool) -> np.ndarray:
    """``delta_t = g_t e_t + c_t delta_{t+1}``, the four ``c_t`` written out."""
    delta, later = np.zeros_like(e), np.zeros_like(e[0])
    for t in reversed(range(len(e))):
        s, m = seen.s[t], seen.u[t]
        if seen.hard:
            c = seen.tau * ((1 - s) if detach else (1 - s) - m * g[t])
        else:
            c = seen.tau * (np.ones_like(s) if detach else 1 - seen.theta * g[t])
        later = delta[t] = g[t] * e[t] + c * later
    return delta


def bptt(slope: Slope, *, detach: bool) -> Backward:
    return lambda seen, e: recursion(seen, e, slope(seen.u - seen.theta), detach=detach)


def bptr(seen: Seen, e: np.ndarray) -> np.ndarray:
    fired = seen.s.sum(0) > 0
    return np.stack([e_t * fired for e_t in e])


def rga(seen: Seen, e: np.ndarray, gamma: float = 0.2, beta: float = 2.0) -> np.ndarray:
    theta, tau = seen.theta, seen.tau
    out = np.zeros_like(e)
    for index in np.ndindex(*e.shape[1:]):
        mean = sum(seen.current[(t, *index)] for t in range(len(e))) / len(e)
        if 0 <= mean <= (1 - tau) * theta:
            g = gamma
        elif (1 - tau) * theta < mean <= beta * theta:
            g = (1 - gamma * theta + gamma * theta * tau) / ((tau + beta - 1) * theta)
        else:
            g = 0.0
        for t in range(len(e)):
            out[(t, *index)] = g * e[(t, *index)]
    return out


def hart(slope: Slope) -> Backward:
    def backward(seen: Seen, e: np.ndarray) -> np.ndarray:
        d = slope(seen.u - seen.theta) * e
        mean = sum(d) / len(d)
        return np.stack([mean] * len(d))

    return backward


def pdsg_slopes(x: np.ndarray) -> np.ndarray:
    """``N(x; sigma/2, sigma^2)``; sigma per sample (and channel) over space and steps up to t."""
    g = np.zeros_like(x)
    groups = (x.shape[1],) if x.ndim == 3 else x.shape[1:3]
    for t in range(x.shape[0]):
        for group in np.ndindex(*groups):
            seen = np.stack([x[(k, *group)] for k in range(t + 1)])
            sigma = float(np.std(seen))
            if sigma < 1e-9:
                sigma = 1.0
            here = x[(t, *group)]
            g[(t, *group)] = np.exp(-((here - sigma / 2) ** 2) / (2 * sigma**2)) / (
                math.sqrt(2 * math.pi) * sigma
            )
    return g


def pdsg(*, detach: bool) -> Backward:
    return lambda seen, e: recursion(seen, e, pdsg_slopes(seen.u - seen.theta), detach=detach)


class Adaptive:
    """Adaptive sharpness with its two running estimates, over the iterations of an attack."""

    def __init__(
        self,
        k: Slope,
        omega: float,
        *,
        rho: float = 1.5,
        betas: tuple[float, float] = (0.9, 0.9),
        detach: bool = True,
    ) -> None:
        self.k, self.omega, self.rho, self.betas, self.detach = k, omega, rho, betas, detach
        self.m: np.ndarray | None = None
        self.d: np.ndarray | None = None

    def observe(self, x: np.ndarray) -> None:
        if self.m is None:
            self.m, self.d = np.ones_like(x), np.zeros_like(x)
        b1, b2 = self.betas
        self.m = b1 * self.m + (1 - b1) * np.abs(x)
        self.d = b2 * self.d + (1 - b2) * np.abs(np.abs(x) - self.m)

    def slopes(self, x: np.ndarray) -> np.ndarray:
        alpha = self.omega / (self.m + self.rho * self.d + 1e-4)
        return alpha * self.k(alpha * x)

    def __call__(self, seen: Seen, e: np.ndarray) -> np.ndarray:
        x = seen.u - seen.theta
        self.observe(x)
        return recursion(seen, e, self.slopes(x), detach=self.detach)


def two_layers(
    x: np.ndarray,
    weights: tuple[np.ndarray, np.ndarray, np.ndarray],
    neurons: tuple[tuple[float, float, bool], tuple[float, float, bool]],
    backwards: tuple[Backward, Backward],
    d_logits: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of linear-spikes-linear-spikes-linear on a constant input, and ``dL/dx``."""
    w1, w2, w3 = weights
    first = see(np.stack([x @ w1.T] * steps), *neurons[0][:2], hard=neurons[0][2])
    second = see(np.stack([s @ w2.T for s in first.s]), *neurons[1][:2], hard=neurons[1][2])
    logits = sum(s @ w3.T for s in second.s) / steps
    e2 = np.stack([d_logits @ w3 / steps] * steps)
    e1 = np.stack([d @ w2 for d in backwards[1](second, e2)])
    return logits, sum(d @ w1 for d in backwards[0](first, e1))


def analog_twin(
    x: np.ndarray,
    weights: tuple[np.ndarray, np.ndarray, np.ndarray],
    thetas: tuple[float, float],
    d_logits: np.ndarray,
    levels: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and ``dL/dx`` of the network whose neurons are activations of ``current / theta``."""

    def activation(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if levels is None:
            return np.maximum(c, 0), (c > 0).astype(c.dtype)
        clipped = np.minimum(np.maximum(c, 0), 1)
        return np.floor(levels * clipped + 0.5) / levels, ((c >= 0) & (c <= 1)).astype(c.dtype)

    w1, w2, w3 = weights
    a1, g1 = activation(x @ w1.T / thetas[0])
    a2, g2 = activation(a1 @ w2.T / thetas[1])
    d2 = d_logits @ w3 * g2 / thetas[1]
    return a2 @ w3.T, (d2 @ w2 * g1 / thetas[0]) @ w1
