"""Places of kept weights as gaps in Rice's code, which for random masks is near the entropy.

A gap ``g`` is ``g >> k`` zeros and a one, and its ``k`` low bits in a second stream. With ``k = 0``
the first stream is the bitmap of the mask, so a bitmap is one of the choices.
"""

from __future__ import annotations

import numpy as np

from spikeproof.errors import Refusal

MOST_BITS = 30


def encode(positions: np.ndarray, size: int) -> tuple[int, bytes, bytes]:
    """Returns ``k`` and both streams; a full tensor needs none and has ``k = -1``."""
    if len(positions) == size:
        return -1, b"", b""
    places = positions.astype(np.int64)
    gaps = np.concatenate([places[:1], places[1:] - places[:-1] - 1])
    sizes = [len(gaps) * (1 + k) + int((gaps >> k).sum()) for k in range(MOST_BITS)]
    k = int(np.argmin(sizes))
    ends = np.cumsum((gaps >> k) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1 if len(ends) else 0, np.uint8)
    unary[ends] = 1
    low = (gaps[:, None] >> np.arange(k - 1, -1, -1)) & 1
    return k, np.packbits(unary).tobytes(), np.packbits(low.astype(np.uint8)).tobytes()


def decode(k: int, unary: bytes, low: bytes, kept: int, size: int) -> np.ndarray:
    """Returns the places; needs memory in proportion to the streams, whatever they promise."""
    if k == -1:
        if kept != size or unary or low:
            raise _damaged()
        return np.arange(size, dtype=np.uint32)
    if not 0 <= k < MOST_BITS or kept > 8 * len(unary) or len(low) != -(-kept * k // 8):
        raise _damaged()
    ends = np.flatnonzero(np.unpackbits(np.frombuffer(unary, np.uint8)))
    if len(ends) != kept or len(unary) != (-(-(int(ends[-1]) + 1) // 8) if kept else 0):
        raise _damaged()
    high = np.diff(ends, prepend=-1) - 1
    if kept and int(high.max()) > size >> k:
        raise _damaged()
    bits = np.unpackbits(np.frombuffer(low, np.uint8), count=kept * k).reshape(kept, k)
    rest = np.zeros(kept, np.int64)
    for column in bits.T:
        rest = rest << 1 | column
    positions = np.cumsum((high << k | rest) + 1) - 1
    if kept and not 0 <= positions[-1] < size:
        raise _damaged()
    return positions.astype(np.uint32)


def _damaged() -> Refusal:
    return Refusal(
        "the places of weights do not add up; they must be as they were packed; take another copy"
    )
