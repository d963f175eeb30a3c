from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.runtime._codes import encoded
from spikeproof.spiking import Averaged, Direct, Frames, Latency, Phase, Poisson, Rate

CODES = (
    Direct(),
    Poisson(3),
    Phase(4),
    Phase(8, weighted=True),
    Rate(),
    Latency(),
    Frames(),
    Averaged(),
)


def entrance(encoder):
    setting = Setting(2, 6, T=5, encoder=encoder, mean=(0.3, 0.4), std=(0.2, 0.7))
    model = build(CNN((4,), 8), setting).eval()
    return model.encode, lower(model, (2, 6, 6), keep_dead=True).input


@pytest.mark.parametrize("encoder", CODES, ids=str)
def test_codes_are_those_of_torch(encoder):
    encode, node = entrance(encoder)
    shape = (4, 5, 2, 6, 6) if encoder.events else (4, 2, 6, 6)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x[0] = x[0].mul(255).round().div(255)
    x[1] = x[1].round()
    wanted = encode(x).unflatten(0, (-1, 4)).numpy()
    found = encoded(node, x.numpy(), 5)
    assert found.dtype == np.float32
    if isinstance(encoder, Averaged):  # a mean of frames, in whatever order they are summed
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    else:
        assert np.array_equal(found, wanted)
    if not node.static and not node.events:
        parts = [encoded(node, x.numpy(), n, first) for first, n in ((0, 2), (2, 3))]
        assert np.array_equal(np.concatenate(parts), wanted)


@pytest.mark.parametrize(
    ("encoder", "shape", "steps", "word"),
    [
        (Direct(), (1, 2, 6, 5), 5, "form"),
        (Direct(), (2, 6, 6), 5, "form"),
        (Direct(), (1, 5, 2, 6, 6), 5, "form"),
        (Frames(), (1, 2, 6, 6), 5, "form"),
        (Frames(), (1, 4, 2, 6, 6), 5, "frames"),
        (Rate(), (1, 2, 6, 6), 6, "T = 5"),
    ],
)
def test_other_input_is_refused(encoder, shape, steps, word):
    _, node = entrance(encoder)
    with pytest.raises(Refusal, match=word):
        encoded(node, np.zeros(shape, np.float32), steps)


def test_other_numbers_are_refused():
    _, node = entrance(Direct())
    with pytest.raises(Refusal, match="float64"):
        encoded(node, np.zeros((1, 2, 6, 6)), 5)
