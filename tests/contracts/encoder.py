"""What every encoder owes."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.seeding import generator
from spikeproof.spiking import Encode, Encoder

STEPS, BATCH = 6, 3


def _input(encoder: Encoder) -> Tensor:
    shape = (BATCH, STEPS, 2, 3, 5) if encoder.events else (BATCH, 2, 3, 5)
    x = torch.rand(shape, generator=generator(0, "encoder"))
    x[0].flatten()[:2] = torch.tensor([0.0, 1.0])
    return x


def assert_encoder(encoder: Encoder) -> None:
    """Right shape and values; deterministic; one sample at a time; the declared slope."""
    x = _input(encoder)
    kept = x.clone()
    entrance = Encode(encoder, STEPS)
    out = entrance(x)
    rows = BATCH if encoder.static else STEPS * BATCH
    assert out.shape == (rows, 2, 3, 5)
    assert torch.equal(x, kept), "the input was changed"
    assert torch.equal(entrance(x), out), "a second call gives something else"
    for i in range(BATCH):
        alone = entrance(x[i : i + 1]).unflatten(0, (-1, 1))[:, 0]
        assert torch.equal(alone, out.unflatten(0, (-1, BATCH))[:, i]), "samples mix"
    assert entrance(x.double()).dtype == torch.float64
    if not encoder.analog:
        _assert_spikes(encoder, x)
        _assert_windows(entrance, x)
    _assert_slope(encoder, x)


def _assert_spikes(encoder: Encoder, x: Tensor) -> None:
    spikes = encoder.spikes(x, STEPS, None)
    assert spikes.shape == (STEPS, *x.shape)
    assert spikes.dtype == x.dtype
    weight = spikes.flatten(1).amax(1)
    for step, height in zip(spikes, weight, strict=True):
        assert ((step == 0) | (step == height)).all(), "two heights of spikes in one step"
    assert weight.min() >= 0
    assert weight.max() <= 1


def _assert_windows(entrance: Encode, x: Tensor) -> None:
    whole = entrance(x).unflatten(0, (STEPS, -1))
    entrance.window = slice(1, 4)
    part = entrance(x).unflatten(0, (3, -1))
    entrance.window = slice(None)
    assert torch.equal(part, whole[1:4])


def _assert_slope(encoder: Encoder, x: Tensor) -> None:
    x = x.double().requires_grad_()
    out = Encode(encoder, STEPS)(x)
    d_out = torch.randn(out.shape, generator=generator(1, "encoder"), dtype=torch.float64)
    (d_x,) = torch.autograd.grad(out, x, d_out)
    assert d_x.shape == x.shape
    train = d_out.unflatten(0, (-1, BATCH))
    if encoder.events:
        share = train.transpose(0, 1)
        expected = (share / STEPS).expand_as(x) if encoder.static else share
    else:
        declared = encoder.jacobian(x.detach(), STEPS)[: len(train)]
        expected = (declared * train).sum(0)
    torch.testing.assert_close(d_x, expected)
