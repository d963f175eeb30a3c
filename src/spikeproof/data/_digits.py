"""Sets without a download: embedded handwriting, and any pictures seen by an event camera."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from spikeproof.data._camera import Camera, record_images
from spikeproof.data._framing import by_time
from spikeproof.data._sets import Dataset, Split, three_ways
from spikeproof.errors import Refusal

CLASSES = tuple("0123456789")
GREYS = 16
SIDE = 16  # at 8 x 8 a saccade moves hardly more than one pixel
AT_ONCE = 256  # recordings held before they are framed


def digits(*, validation: float = 0.1, seed: int = 0) -> Dataset:
    """Returns the 1797 handwritten digits of 8 x 8 pixels that scikit-learn brings along."""
    return Dataset("digits", *three_ways(_whole(), validation, seed), CLASSES)


def event_digits(*, steps: int = 10, validation: float = 0.1, seed: int = 0) -> Dataset:
    """Returns the digits, enlarged to 16 x 16, as the simulated event camera records them.

    The recordings are the same for every seed, which only draws the validation split.
    """
    whole = _whole()
    images, labels = whole.batch(torch.arange(len(whole)))
    large = interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    split = Split(_recorded(large, Camera(), steps, seed=0, first=0), labels, 1.0)
    return Dataset("event-digits", *three_ways(split, validation, seed), CLASSES)


def to_events(dataset: Dataset, camera: Camera, steps: int, seed: int) -> Dataset:
    """Returns a set of images as the event camera records them, in slices of equal duration.

    Colours are averaged to grey. All recordings come from one simulated sensor.
    """
    if dataset.events:
        raise Refusal(f"{dataset.name} holds events already; a camera needs images; choose some")
    parts, first = [], 0
    for split in (dataset.test, dataset.train, dataset.validation):
        frames = [
            _recorded(split.batch(index)[0], camera, steps, seed, first + int(index[0]))
            for index in torch.arange(len(split)).split(AT_ONCE)
        ]
        parts.append(Split(torch.cat(frames), split.y, 1.0))
        first += len(split)
    test, train, validation = parts
    return Dataset(f"event-{dataset.name}", train, validation, test, dataset.classes)


def _recorded(images: Tensor, camera: Camera, steps: int, seed: int, first: int) -> Tensor:
    grey = images.double().mean(1).clamp(0, 1).numpy()
    frames = [
        by_time(events, steps)
        for start in range(0, len(grey), AT_ONCE)
        for events in record_images(
            grey[start : start + AT_ONCE], camera, seed, first=first + start
        )
    ]
    return torch.from_numpy(np.stack(frames))


def _whole() -> Split:
    from sklearn.datasets import load_digits  # takes a second, and most sets do without it

    found = load_digits()
    x = torch.from_numpy(found.images.astype(np.uint8))[:, None]
    return Split(x, torch.from_numpy(found.target.astype(np.int64)), 1 / GREYS)
