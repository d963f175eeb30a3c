from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import (
    Averaged,
    Direct,
    Encode,
    Frames,
    Latency,
    Phase,
    Poisson,
    Rate,
)
from tests.contracts.encoder import assert_encoder
from tests.oracles import encoders as oracle

ENCODERS = [
    Direct(),
    Poisson(),
    Poisson(seed=3),
    Phase(),
    Phase(bits=1),
    Phase(bits=4, weighted=True),
    Rate(),
    Latency(),
    Frames(),
    Averaged(),
]


def image(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def train(encoder, x, steps, source=None) -> torch.Tensor:
    """Spikes of every pixel of one row, (T, pixels)."""
    return encoder.spikes(x, steps, source).flatten(1)


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_contract(encoder):
    assert_encoder(encoder)


@pytest.mark.parametrize(
    ("level", "pattern"), [(128, "1000000010"), (192, "1100000011"), (1, "0000000100")]
)
def test_phase_patterns_by_hand(level, pattern):
    spikes = train(Phase(), image(level / 255), 10)
    assert "".join(str(int(s)) for s in spikes.flatten()) == pattern == oracle.phase(level, 10)


@pytest.mark.parametrize("bits", [1, 3, 8, 16])
def test_phase_of_every_level(bits):
    top = 2**bits - 1
    levels = list(range(0, top + 1, max(1, top // 300)))
    x = torch.tensor([n / top for n in levels], dtype=torch.float64).reshape(1, 1, 1, -1)
    spikes = train(Phase(bits=bits), x, 11).T.to(torch.int64).tolist()
    assert ["".join(map(str, row)) for row in spikes] == [oracle.phase(n, 11, bits) for n in levels]


def test_weighted_phase_sums_to_the_level():
    levels = torch.arange(256, dtype=torch.float64).reshape(1, 1, 1, -1)
    spikes = train(Phase(weighted=True), levels / 255, 8)
    torch.testing.assert_close(spikes.sum(0), levels.flatten() / 256)
    weights = Phase(weighted=True).jacobian(levels, 10).flatten().tolist()
    assert weights == oracle.phase_weights(10)


@pytest.mark.parametrize("bits", [0, 17])
def test_phase_of_no_or_too_many_bits_is_refused(bits):
    with pytest.raises(Refusal, match="1 to 16 bits"):
        Phase(bits=bits)


def test_poisson_rate_is_the_pixel():
    x = image(*torch.linspace(0, 1, 11).tolist())
    n = 4000
    spikes = train(Poisson(), x, n, generator(0, "test"))
    limit = 4.5 * torch.sqrt(x.flatten() * (1 - x.flatten()) / n)  # 4.5 standard errors
    assert ((spikes.mean(0) - x.flatten()).abs() <= limit).all()
    assert spikes[:, 0].sum() == 0
    assert spikes[:, -1].sum() == n


def test_poisson_draws_are_independent_over_samples_and_steps():
    x = torch.full((2, 1, 50, 50), 0.5)
    spikes = Poisson().spikes(x, 4, generator(1)) - 0.5
    rows = spikes.reshape(8, -1)
    correlation = (rows @ rows.T / rows.shape[1] * 4).fill_diagonal_(0)
    assert correlation.abs().max() < 4.5 / math.sqrt(rows.shape[1])


def test_poisson_is_frozen_without_a_generator_and_fresh_with_one():
    x = torch.full((2, 1, 8, 8), 0.5)
    frozen = Poisson().spikes(x, 6, None)
    assert torch.equal(frozen, Poisson().spikes(x, 6, None))
    assert torch.equal(frozen[:, 0], frozen[:, 1])
    assert not torch.equal(frozen, Poisson(seed=1).spikes(x, 6, None))
    source = generator(5)
    first = Poisson().spikes(x, 6, source)
    assert not torch.equal(first, Poisson().spikes(x, 6, source))
    assert torch.equal(first, Poisson().spikes(x, 6, generator(5)))


@given(st.integers(0, 255), st.integers(1, 24))
def test_rate_fires_floor_of_t_x_times(level, steps):
    spikes = train(Rate(), image(level / 255), steps)
    assert spikes.sum() == oracle.rate_count(level, 255, steps)
    gaps = spikes.flatten().nonzero().flatten().diff()
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1, "not spread evenly"


@pytest.mark.parametrize("steps", [10, 22, 23, 29])
def test_rate_does_not_lose_a_spike_to_rounding(steps):
    x = torch.arange(steps + 1) / steps  # in float32, 7/23 * 23 is below 7
    counts = train(Rate(), x.reshape(1, 1, 1, -1), steps).sum(0)
    assert counts.tolist() == [oracle.rate_count(n, steps, steps) for n in range(steps + 1)]


@given(st.integers(0, 256), st.integers(1, 17))
def test_latency_fires_once_and_the_brighter_the_earlier(level, steps):
    x = level / 256
    spikes = train(Latency(), image(x), steps).flatten()
    assert spikes.nonzero().flatten().tolist() == [oracle.latency_time(x, steps)]
    slope = Latency().jacobian(image(x), steps).flatten().tolist()
    assert slope == pytest.approx(oracle.latency_slope(x, steps))


def test_direct_and_frames_and_averaged_are_the_values():
    x = torch.rand((2, 3, 4, 4), generator=generator(0))
    assert torch.equal(Direct().spikes(x, 3, None), torch.stack([x] * 3))
    assert torch.equal(Encode(Direct(), 3)(x), x), "time opens at the first neuron"
    frames = torch.rand((2, 5, 3, 4, 4), generator=generator(1))
    assert torch.equal(Frames().spikes(frames, 5, None)[3, 1], frames[1, 3])
    np.testing.assert_allclose(
        Encode(Averaged(), 9)(frames), sum(frames[:, t] for t in range(5)) / 5, rtol=1e-6
    )


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_the_other_kind_of_input_is_refused(encoder):
    entrance = Encode(encoder, 4)
    for rank in (2, 3, 4, 5, 6):
        if rank != (5 if encoder.events else 4):
            with pytest.raises(Refusal, match="add the missing axis"):
                entrance(torch.zeros([4] * rank))


def test_frames_of_another_t_are_refused_and_averaged_takes_any():
    with pytest.raises(Refusal, match="3 frames; this network runs T = 4"):
        Encode(Frames(), 4)(torch.zeros(2, 3, 1, 2, 2))
    assert Encode(Averaged(), 4)(torch.zeros(2, 3, 1, 2, 2)).shape == (2, 1, 2, 2)


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_values_are_normalised_and_spikes_are_not(encoder):
    mean, std = (0.5, 0.25, 0.0), (0.5, 2.0, 1.0)
    shape = (2, 4, 3, 5, 5) if encoder.events else (2, 3, 5, 5)
    x = torch.rand(shape, generator=generator(2))
    plain, normed = Encode(encoder, 4)(x), Encode(encoder, 4, mean, std)(x)
    if encoder.analog:
        shift, scale = (torch.tensor(v).reshape(-1, 1, 1) for v in (mean, std))
        torch.testing.assert_close(normed, (plain - shift) / scale)
    else:
        assert torch.equal(normed, plain)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.0,), (1.0, 1.0)), ((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((0.0,), (math.nan,))],
)
def test_bad_normalisation_is_refused(mean, std):
    with pytest.raises(Refusal, match="one number per channel"):
        Encode(Direct(), 4, mean, std)


def test_other_channels_than_the_normalised_are_refused():
    entrance = Encode(Direct(), 4, (0.4, 0.5, 0.6), (1.0, 1.0, 1.0))
    for channels in (1, 2, 4):
        with pytest.raises(Refusal, match=f"{channels} channels; this network normalises 3"):
            entrance(torch.zeros(2, channels, 4, 4))


def test_normalisation_is_no_part_of_the_state():
    assert Encode(Direct(), 4, (0.5,), (0.5,)).state_dict() == {}
