from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.data import Dataset, Split, held_out, subset
from spikeproof.data._sets import three_ways
from spikeproof.errors import Refusal


def numbered(labels: list[int]) -> Split:
    """Samples that carry their own place, so that one can follow them."""
    x = torch.arange(len(labels), dtype=torch.float32).view(-1, 1, 1, 1) / 1000
    return Split(x, torch.tensor(labels), 1.0)


def places(split: Split) -> list[int]:
    return (split.x.flatten() * 1000).round().long().tolist()


LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=120)


def test_batch_scales_every_grey_level_into_the_range():
    x = torch.arange(256).to(torch.uint8).view(256, 1, 1, 1)
    split = Split(x, torch.zeros(256, dtype=torch.int64), 1 / 255)
    images, labels = split.batch(torch.tensor([255, 0, 51]))
    assert images.flatten().tolist() == [1.0, 0.0, pytest.approx(0.2)]
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert split.batch(torch.arange(256))[0].max() == 1


def test_a_digest_tells_samples_labels_types_and_scales_apart():
    split = numbered([0, 1, 2])
    same = split.take(torch.tensor([0, 1, 2]))
    others = [
        split.take(torch.tensor([0, 2, 1])),
        split.take(torch.tensor([0, 1])),
        Split(split.x, torch.tensor([0, 1, 1]), 1.0),
        Split(split.x, split.y, 0.5),
        Split(split.x.flip(0), split.y, 1.0),
        Split((split.x * 0).to(torch.uint8), split.y, 1.0),
    ]
    assert same.digest() == split.digest()
    assert len({split.digest(), *(other.digest() for other in others)}) == 7


@pytest.mark.parametrize(
    ("x", "y", "scale", "word"),
    [
        (torch.zeros(2, 3, 4), [0, 0], 1.0, "shape"),
        (torch.zeros(0, 1, 3, 4), [], 1.0, "shape"),
        (torch.zeros(2, 1, 0, 4), [0, 0], 1.0, "shape"),
        (torch.zeros(2, 1, 3, 4), [0], 1.0, "int64 label"),
        (torch.zeros(2, 1, 3, 4), [[0], [0]], 1.0, "int64 label"),
        (torch.zeros(2, 1, 3, 4), [0, -1], 1.0, "-1"),
        (torch.zeros(2, 1, 3, 4).double(), [0, 1], 1.0, "float64"),
        (torch.zeros(2, 1, 3, 4), [0, 1], 0.0, "scale"),
        (torch.zeros(2, 1, 3, 4), [0, 1], math.nan, "scale"),
        (torch.full((2, 1, 3, 4), math.nan), [0, 1], 1.0, "NaN"),
        (torch.full((2, 1, 3, 4), math.inf), [0, 1], 1.0, "infinite"),
        (torch.full((2, 1, 3, 4), -0.1), [0, 1], 1.0, "-0.1"),
        (torch.full((2, 1, 3, 4), 1.5), [0, 1], 1.0, "1.5"),
        (torch.full((2, 1, 3, 4), 17, dtype=torch.uint8), [0, 1], 1 / 16, "1.0625"),
        (torch.full((2, 1, 1, 3, 4), -1.0), [0, 1], 1.0, "negative"),
    ],
)
def test_unsound_samples_are_refused(x, y, scale, word):
    with pytest.raises(Refusal, match=word):
        Split(x, torch.tensor(y, dtype=torch.int64), scale)


def test_labels_of_another_type_are_refused():
    with pytest.raises(Refusal, match="int32"):
        Split(torch.zeros(2, 1, 3, 4), torch.zeros(2, dtype=torch.int32), 1.0)


def test_event_counts_may_exceed_one():
    split = Split(torch.full((2, 5, 2, 3, 3), 7, dtype=torch.uint8), torch.tensor([0, 1]), 1.0)
    dataset = Dataset("e", split, split, split, ("a", "b"))
    assert dataset.events
    assert dataset.shape == (5, 2, 3, 3)
    assert split.batch(torch.tensor([0]))[0].max() == 7


@pytest.mark.parametrize("shape", [(9000, 3, 2, 2), (500, 4, 2, 3, 3)])
def test_mean_and_std_are_those_of_the_scaled_channels(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    split = Split(x, torch.arange(len(x)) % 2, 1 / 255)
    dataset = Dataset("d", split, split, split, ("a", "b"))
    channels = (x.double() / 255).movedim(-3, 0).flatten(1)
    assert dataset.mean == pytest.approx(channels.mean(1).tolist(), abs=1e-12)
    assert dataset.std == pytest.approx(channels.std(1, correction=0).tolist(), abs=1e-12)


def test_splits_must_agree():
    small, wide = numbered([0, 1]), Split(torch.zeros(2, 1, 1, 2), torch.tensor([0, 1]), 1.0)
    with pytest.raises(Refusal, match="test samples"):
        Dataset("d", small, small, wide, ("a", "b"))
    with pytest.raises(Refusal, match="label 1"):
        Dataset("d", small, small, small, ("a",))


@given(labels=LABELS, share=st.floats(0.2, 0.6), seed=st.integers(0, 99))
def test_held_out_is_a_stratified_partition(labels, share, seed):
    split = numbered(labels)
    kept, held = held_out(split, share, seed=seed)
    assert sorted(places(kept) + places(held)) == list(range(len(labels)))
    assert places(held) == sorted(places(held))
    for label in set(labels):
        count = int((held.y == label).sum())
        assert abs(count - share * labels.count(label)) < 1.6  # rounded twice
        assert count < labels.count(label)
    for part in (kept, held):
        assert [labels[place] for place in places(part)] == part.y.tolist()


def test_held_out_depends_on_the_seed_alone():
    split = numbered([k % 3 for k in range(90)])
    first, again, other = (held_out(split, 0.2, seed=seed)[1] for seed in (1, 1, 2))
    assert places(first) == places(again) != places(other)


def test_every_class_keeps_a_sample():
    kept, held = held_out(numbered([0] * 9 + [1]), 0.9, seed=0)
    assert kept.y.unique().tolist() == [0, 1]
    assert held.y.unique().tolist() == [0]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_shares_outside_are_refused(share):
    with pytest.raises(Refusal, match="between 0 and 1"):
        held_out(numbered([0, 1] * 5), share, seed=0)


def test_holding_none_out_is_refused():
    with pytest.raises(Refusal, match="holds none out"):
        held_out(numbered([0, 1]), 0.1, seed=0)


@given(labels=LABELS, data=st.data())
def test_subset_has_the_count_and_the_proportions(labels, data):
    split = numbered(labels)
    count = data.draw(st.integers(1, len(labels)))
    seed = data.draw(st.none() | st.integers(0, 9))
    part = subset(split, count, seed=seed)
    assert len(part) == count
    assert places(part) == sorted(set(places(part)))
    for label in set(labels):
        exact = count * labels.count(label) / len(labels)
        assert abs(int((part.y == label).sum()) - exact) < 1


def test_subset_without_a_seed_takes_the_first_of_each_class():
    assert places(subset(numbered([0, 0, 0, 1, 1, 1]), 4)) == [0, 1, 3, 4]
    split = numbered([k % 2 for k in range(100)])
    assert places(subset(split, 10, seed=1)) != places(subset(split, 10))


@pytest.mark.parametrize("count", [0, -1, 11])
def test_subset_of_too_few_or_many_is_refused(count):
    with pytest.raises(Refusal, match=r"ask for 1\.\.10"):
        subset(numbered([0, 1] * 5), count)


def test_three_ways_leaves_the_test_split_alone():
    split = numbered([k % 4 for k in range(200)])
    one, two = three_ways(split, 0.1, seed=1), three_ways(split, 0.25, seed=2)
    assert places(one[2]) == places(two[2])
    assert [len(part) for part in one] == [144, 16, 40]
    assert sorted(place for part in one for place in places(part)) == list(range(200))
    with pytest.raises(Refusal, match=r"held out is 1\.5"):
        three_ways(split, 1.5, seed=0)
