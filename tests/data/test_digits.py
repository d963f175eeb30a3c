from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from spikeproof.data import (
    Camera,
    Dataset,
    Split,
    by_time,
    digits,
    load,
    record_images,
    subset,
    to_events,
)
from spikeproof.errors import Refusal


def test_digits_are_the_embedded_ones_split_once():
    dataset = digits()
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == [1294, 144, 359]
    everything = load_digits()
    expected = sorted(map(bytes, everything.data.astype(np.uint8)))
    found = torch.cat([part.x for part in parts]).flatten(1).numpy()
    assert sorted(map(bytes, found)) == expected
    label = dict(zip(map(bytes, everything.data.astype(np.uint8)), everything.target, strict=True))
    for part in parts:
        assert [label[bytes(x)] for x in part.x.flatten(1).numpy()] == part.y.tolist()
        counts = part.y.bincount() / len(part)
        assert (counts - torch.from_numpy(everything.target).bincount() / 1797).abs().max() < 0.01
    assert dataset.train.batch(torch.arange(1294))[0].max() == 1


def test_the_seed_draws_validation_and_never_test():
    one, two = digits(seed=1, validation=0.2), digits(seed=2)
    assert torch.equal(one.test.x, two.test.x)
    assert torch.equal(digits(seed=2).validation.x, two.validation.x)
    assert not torch.equal(digits(seed=3).validation.x, two.validation.x)


def test_event_digits_tell_the_classes_apart(tmp_path):
    dataset = load("event-digits", tmp_path, steps=4)
    assert dataset.shape == (4, 2, 16, 16)
    assert dataset.events
    assert torch.equal(dataset.test.y, digits().test.y)
    # the nearest mean of the counts over time is a classifier of its own: chance is 0.1
    train, test = (part.x.float().sum(1).flatten(1) for part in (dataset.train, dataset.test))
    means = torch.stack([train[dataset.train.y == k].mean(0) for k in range(10)])
    hits = torch.cdist(test, means).argmin(1) == dataset.test.y
    assert hits.float().mean() > 0.8


def coloured(count: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    x = torch.randint(0, 256, (count, 3, 6, 6), generator=generator, dtype=torch.uint8)
    return Split(x, torch.arange(count) % 2, 1 / 255)


def test_to_events_records_the_grey_of_every_image():
    dataset = Dataset("d", coloured(300), coloured(4), coloured(6), ("a", "b"))
    camera = Camera(duration_us=20_000)
    events = to_events(dataset, camera, steps=3, seed=5)
    assert events.name == "event-d"
    assert events.shape == (3, 2, 6, 6)
    images = torch.cat([part.x for part in (dataset.test, dataset.train, dataset.validation)])
    grey = (images.double() / 255).mean(1).float().double().numpy()
    frames = [by_time(recording, 3) for recording in record_images(grey, camera, 5)]
    found = torch.cat([part.x for part in (events.test, events.train, events.validation)])
    agree = (found == torch.from_numpy(np.stack(frames))).float().mean()
    assert agree > 0.999  # float32 grey may move a crossing by one slice
    assert torch.equal(events.train.y, dataset.train.y)
    with pytest.raises(Refusal, match="holds events already"):
        to_events(events, camera, steps=3, seed=5)


def test_steps_below_one_are_refused():
    dataset = digits()
    few = Dataset("d", *[subset(dataset.test, 10)] * 3, dataset.classes)
    with pytest.raises(Refusal, match="steps is 0"):
        to_events(few, Camera(), steps=0, seed=0)
