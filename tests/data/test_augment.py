from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.data import Augmentation, cutout, event_cutout, flip, pad_crop, roll, rotate
from spikeproof.errors import Refusal
from spikeproof.seeding import generator


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(*shape: int, seed: int = 1) -> torch.Tensor:
    """Counts from 1 on, so that a black pixel is always one that was made black."""
    return torch.randint(1, 256, shape, generator=seeded(seed)).float()


VIEWS = {
    "pad_crop": lambda x, g: pad_crop(x, 3, g),
    "flip": flip,
    "cutout": lambda x, g: cutout(x, 4, g),
    "event_cutout": lambda x, g: event_cutout(x, 4, g),
    "roll": lambda x, g: roll(x, 3, g),
    "rotate": lambda x, g: rotate(x, 40.0, g),
}
SHAPES = [(32, 3, 8, 10), (32, 4, 2, 8, 10)]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_view_is_a_view(name, shape):
    x = batch(*shape)
    before = x.clone()
    found = VIEWS[name](x, seeded())
    assert torch.equal(x, before)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert torch.isin(found, torch.cat([x.flatten(), torch.zeros(1)])).all()
    assert torch.equal(found, VIEWS[name](x, seeded()))
    assert not torch.equal(found, VIEWS[name](x, seeded(9)))
    assert not torch.equal(found, x)


@pytest.mark.parametrize("name", VIEWS)
def test_all_steps_and_channels_of_a_sample_share_one_view(name):
    plane = batch(32, 1, 1, 8, 10)
    found = VIEWS[name](plane.expand(-1, 5, 2, -1, -1), seeded())
    assert torch.equal(found, found[:, :1, :1].expand_as(found))
    alone = VIEWS[name](plane[:, 0], seeded())
    assert torch.equal(found[:, 0, :1], alone)


@pytest.mark.parametrize("name", VIEWS)
def test_samples_have_views_of_their_own(name):
    same = batch(1, 1, 8, 10).expand(32, -1, -1, -1)
    found = VIEWS[name](same, seeded())
    assert len(found.flatten(1).unique(dim=0)) > 1


@given(pad=st.integers(1, 5), seed=st.integers(0, 99))
def test_pad_crop_is_a_window_of_the_padded_picture(pad, seed):
    x = batch(4, 2, 5, 7, seed=seed)
    padded = torch.nn.functional.pad(x, [pad] * 4)
    for found, wide in zip(pad_crop(x, pad, seeded(seed)), padded, strict=True):
        windows = wide.unfold(1, 5, 1).unfold(2, 7, 1)
        assert (windows == found[:, None, None]).all((0, 3, 4)).any()


def test_flip_mirrors_about_half():
    x = batch(4000, 1, 2, 3)
    found = flip(x, seeded())
    mirrored = (found == x.flip(-1)).flatten(1).all(1)
    kept = (found == x).flatten(1).all(1)
    assert (mirrored ^ kept).sum() > 3900  # symmetric pictures are both
    assert 0.47 < mirrored.float().mean() < 0.53


@pytest.mark.parametrize(("view", "smallest"), [(cutout, 4), (event_cutout, 1)])
def test_the_hole_is_a_square_cut_by_the_edge(view, smallest):
    x = batch(2000, 2, 9, 9)
    found = view(x, 4, seeded())
    hole = (found == 0).all(1)
    assert torch.equal(hole, (found == 0).any(1))
    assert torch.equal(found[~hole[:, None].expand_as(x)], x[~hole[:, None].expand_as(x)])
    tall, wide = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), tall * wide)
    inside = ~(
        hole[:, 0].any(1) | hole[:, -1].any(1) | hole[:, :, 0].any(1) | hole[:, :, -1].any(1)
    )
    assert torch.equal(tall[inside], wide[inside])
    assert sorted(tall[inside].unique().tolist()) == list(range(smallest, 5))
    assert hole.any(0).all()


@given(pixels=st.integers(1, 6), seed=st.integers(0, 99))
def test_roll_loses_nothing(pixels, seed):
    x = batch(4, 2, 5, 7, seed=seed)
    for found, old in zip(roll(x, pixels, seeded(seed)), x, strict=True):
        reach = range(-pixels, pixels + 1)
        assert any(
            torch.equal(found, old.roll((down, right), (1, 2))) for down in reach for right in reach
        )


def test_rotate_by_right_angles_is_exact():
    x = batch(1, 1, 6, 6)

    turned = x[0].rot90(1, (1, 2)), x[0].rot90(-1, (1, 2))
    found = rotate(x.expand(4000, -1, -1, -1), 90.1, seeded())
    for expected in turned:
        assert (found == expected).flatten(1).all(1).any()
    assert (found == x[0]).flatten(1).all(1).any()


def test_rotate_keeps_angles_where_pictures_are_not_square():
    x = torch.zeros(1, 1, 21, 61)
    x[..., 10, 20:41] = 1  # a bar of 21 pixels through the centre
    found = rotate(x.expand(3000, -1, -1, -1), 90.0, seeded())
    upright = found[:, 0, :, 30].sum(1)
    assert upright.max() >= 20
    assert (found.sum((1, 2, 3)) - 21).abs().max() < 14


def test_augmentation_applies_what_is_on():
    x = batch(16, 1, 8, 8)
    assert torch.equal(Augmentation()(x, seeded()), x)
    assert torch.equal(Augmentation(pad=2)(x, seeded()), pad_crop(x, 2, seeded()))
    assert torch.equal(Augmentation(cutout=3)(x, seeded()), cutout(x, 3, seeded()))
    events = batch(16, 3, 2, 8, 8)
    assert torch.equal(Augmentation(cutout=3)(events, seeded()), event_cutout(events, 3, seeded()))
    shared = seeded()
    stepwise = flip(rotate(roll(events, 2, shared), 20.0, shared), shared)
    assert torch.equal(Augmentation(roll=2, rotate=20.0, flip=True)(events, seeded()), stepwise)


@pytest.mark.parametrize("name", ["pad", "cutout", "roll", "rotate"])
def test_knobs_out_of_bounds_are_refused(name):
    for value in (-1, 1025, 10**30):
        with pytest.raises(Refusal, match=f"{name} is {value}"):
            Augmentation(**{name: value})


def test_batches_of_another_rank_are_refused():
    with pytest.raises(Refusal, match=r"\(4, 8, 8\)"):
        Augmentation(pad=1)(torch.zeros(4, 8, 8), seeded())


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 5, 2, 8, 8)])
def test_views_are_taken_where_the_samples_are(shape):
    views = Augmentation(pad=2, flip=True, cutout=3, roll=2, rotate=10)
    found = views(torch.empty(shape, device="meta"), generator(0, "elsewhere"))
    assert found.device.type == "meta"
    assert found.shape == shape
