"""What every kind of neuron owes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spikeproof.seeding import generator
from spikeproof.spiking import LIF, Spiking
from tests.oracles import lif as oracle

STEPS, BATCH, WIDTH = 7, 3, 5


def _currents(neuron: LIF, dtype: torch.dtype) -> Tensor:
    scale = 2 * neuron.theta
    noise = torch.rand((STEPS, BATCH, WIDTH), generator=generator(0, "neuron"))
    return ((noise * 1.5 - 0.4) * scale).to(dtype)


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else value


def assert_neuron(neuron: LIF) -> None:
    """Equal to the oracle; causal; one sample at a time; from rest at every call; resumable."""
    layer = Spiking(neuron, STEPS)
    for dtype in (torch.float32, torch.float64):
        _assert_oracle(layer, _currents(neuron, dtype))
    current = _currents(neuron, torch.float64)
    spikes, membrane = layer.run(current)
    assert 0 < spikes.mean() < 1, "the contract's currents show nothing of this neuron"
    again = layer(current.flatten(0, 1)).unflatten(0, (STEPS, BATCH))
    assert torch.equal(again, spikes), "a second call does not start at rest"
    _assert_handed_over(layer, current, spikes, membrane)
    _assert_alone(layer, current, spikes)
    _assert_causal(layer, current, spikes)
    _assert_nan(layer, current, spikes)
    _assert_low_precision(layer, current)
    _assert_gradient(layer, current)


def _assert_oracle(layer: Spiking, current: Tensor) -> None:
    spikes, membrane = layer.run(current)
    expected, last, _ = oracle.layer(
        current.numpy(),
        _number(layer.theta),
        _number(layer.tau),
        hard=layer.neuron.reset == "hard",
    )
    np.testing.assert_array_equal(spikes.detach().numpy(), expected)
    np.testing.assert_array_equal(membrane.detach().numpy(), last)


def _assert_handed_over(layer: Spiking, current: Tensor, spikes: Tensor, last: Tensor) -> None:
    for t in range(1, STEPS):
        first, membrane = layer.run(current[:t])
        second, membrane = layer.run(current[t:], membrane)
        assert torch.equal(torch.cat([first, second]), spikes), f"cut at {t}"
        assert torch.equal(membrane, last)


def _assert_alone(layer: Spiking, current: Tensor, spikes: Tensor) -> None:
    for i in range(BATCH):
        assert torch.equal(layer.run(current[:, i : i + 1])[0][:, 0], spikes[:, i])
        other = current.clone()
        other[:, i] += 1
        rest = [j for j in range(BATCH) if j != i]
        assert torch.equal(layer.run(other)[0][:, rest], spikes[:, rest]), "samples mix"


def _assert_causal(layer: Spiking, current: Tensor, spikes: Tensor) -> None:
    for t in range(STEPS):
        other = current.clone()
        other[t] += 100 * layer.neuron.theta
        changed, _ = layer.run(other)
        assert torch.equal(changed[:t], spikes[:t]), "a spike before its cause"
        assert (changed[t] == 1).all()


def _assert_nan(layer: Spiking, current: Tensor, spikes: Tensor) -> None:
    other = current.clone()
    other[2, 1, 3] = torch.nan
    changed, _ = layer.run(other)
    assert (changed[2:, 1, 3] == 0).all(), "nothing is not a spike"
    changed[2:, 1, 3] = spikes[2:, 1, 3]
    assert torch.equal(changed, spikes), "it reaches a neighbour"


def _assert_low_precision(layer: Spiking, current: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        low = current.to(dtype)
        spikes, membrane = layer.run(low)
        assert spikes.dtype == dtype
        assert membrane.dtype == torch.float32
        assert torch.equal(spikes.float(), layer.run(low.float())[0])


def _assert_gradient(layer: Spiking, current: Tensor) -> None:
    x = current.clone().requires_grad_()
    spikes, membrane = layer.run(x)
    values = [x, *layer.parameters()]
    for slope in torch.autograd.grad(spikes.sum() + membrane.sum(), values):
        assert torch.isfinite(slope).all()
        assert (slope != 0).any(), "no gradient"
