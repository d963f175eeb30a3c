from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.errors import Refusal
from spikeproof.ir._gaps import decode, encode


@given(st.sets(st.integers(0, 4999), max_size=400), st.integers(5000, 100_000))
def test_places_come_back(chosen, size):
    places = np.array(sorted(chosen), np.uint32)
    k, unary, low = encode(places, size)
    assert np.array_equal(decode(k, unary, low, len(places), size), places)


def test_a_full_tensor_needs_no_places():
    assert encode(np.arange(9, dtype=np.uint32), 9) == (-1, b"", b"")
    assert decode(-1, b"", b"", 9, 9).tolist() == list(range(9))


@pytest.mark.parametrize("kept", [0.01, 0.05, 0.1, 0.5])
def test_random_places_take_at_most_a_twentieth_more_than_their_entropy(kept):
    size = 200_000
    places = np.flatnonzero(np.random.default_rng(0).random(size) < kept).astype(np.uint32)
    _, unary, low = encode(places, size)
    share = len(places) / size
    entropy = -size * (share * np.log2(share) + (1 - share) * np.log2(1 - share)) / 8
    assert entropy < len(unary) + len(low) < 1.05 * entropy


def test_a_dense_mask_is_its_bitmap():
    places = np.flatnonzero(np.random.default_rng(0).random(8000) < 0.6).astype(np.uint32)
    k, unary, low = encode(places, 8000)
    bits = np.zeros(8000, np.uint8)
    bits[places] = 1
    assert k == 0
    assert low == b""
    assert unary == np.packbits(bits[: places[-1] + 1]).tobytes()


@pytest.mark.parametrize(
    ("k", "unary", "low", "kept", "size"),
    [
        (-1, b"", b"", 3, 4),
        (-1, b"x", b"", 4, 4),
        (0, b"\xff", b"", 9, 100),  # more than there are bits
        (0, b"\xff", b"", 7, 100),  # fewer
        (0, b"\xff\x00", b"", 8, 100),  # a byte too many
        (3, b"\xff", b"\0\0", 8, 100),  # low bits cut off
        (0, b"\x01", b"", 1, 7),  # beyond the tensor
        (29, b"\x01", b"\xff\xff\xff\xff", 1, 100),
        (30, b"\x80", b"\0\0\0\0", 1, 100),
    ],
)
def test_streams_that_do_not_add_up_are_refused(k, unary, low, kept, size):
    with pytest.raises(Refusal, match="do not add up"):
        decode(k, unary, low, kept, size)
