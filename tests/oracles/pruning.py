"""How many weights layers keep, and which thresholds they get: loops over numbers."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def magnitude(weight: Array, sparsity: float) -> Array:
    """Returns the mask of one layer: the smallest go one by one, the first of equals first."""
    flat = [abs(float(w)) for w in weight.flatten()]
    kept = [True] * len(flat)
    for _ in range(int(sparsity * len(flat))):
        smallest = None
        for i, size in enumerate(flat):
            if kept[i] and (smallest is None or size < flat[smallest]):
                smallest = i
        kept[smallest] = False
    return np.array(kept).reshape(weight.shape)


def erk(shapes: list[tuple[int, ...]], total: int) -> list[float]:
    """Returns real-valued counts: one layer is made dense at a time, the most overfull first."""
    full: list[int] = []
    while True:
        sizes = [np.prod(shape) for shape in shapes]
        left = total - sum(sizes[i] for i in full)
        rest = [i for i in range(len(shapes)) if i not in full]
        raw = {i: sum(shapes[i]) / sizes[i] for i in rest}
        scale = left / sum(raw[i] * sizes[i] for i in rest)
        worst = max(rest, key=lambda i: raw[i])
        if scale * raw[worst] <= 1:
            return [
                float(sizes[i]) if i in full else scale * raw[i] * sizes[i]
                for i in range(len(shapes))
            ]
        full.append(worst)


def lamp(weights: list[Array], total: int) -> list[Array]:
    """Returns masks: scores from double loops, then the largest of all layers."""
    scored = []
    for layer, weight in enumerate(weights):
        flat = weight.astype(np.float64).flatten()
        for i, w in enumerate(flat):
            above = sum(v * v for v in flat if v * v >= w * w)
            scored.append((w * w / above, layer, i))
    masks = [np.zeros(weight.size, dtype=bool) for weight in weights]
    for _, layer, i in sorted(scored, reverse=True)[:total]:
        masks[layer][i] = True
    return [mask.reshape(w.shape) for mask, w in zip(masks, weights, strict=True)]


def percentile(values: Array, percent: float) -> float:
    """Returns the value of rank ``1 + round(percent/100 (N - 1))``, counted by hand."""
    rising = sorted(float(v) for v in values.flatten())
    return rising[round(percent / 100 * (len(rising) - 1))]
