from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from spikeproof.data._camera import Camera, emit, record_images
from spikeproof.errors import Refusal
from tests.oracles.event_camera import pixel_events

QUIET = Camera(threshold_sigma=0.0, background_hz=0.0, refractory_us=0)


def pictures(n=5, side=8, seed=0):
    return np.random.default_rng(seed).random((n, side, side))


def same(a, b):
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in "txyp")


def one_pixel(log, times, on, off, refractory=0):
    t, pixel, p = emit(
        np.array(log, float)[:, None], np.array(times), np.array([on]), np.array([off]), refractory
    )
    assert not pixel.any()
    return list(zip(t.tolist(), p.tolist(), strict=True))


def test_a_still_picture_of_any_brightness_is_silent():
    flat = np.broadcast_to(np.linspace(0, 1, 6)[:, None, None], (6, 7, 9))
    assert [len(found) for found in record_images(flat, QUIET, 0)] == [0] * 6
    still = replace(QUIET, amplitude=0.0)
    assert not any(len(found) for found in record_images(pictures(), still, 0))


@pytest.mark.parametrize(("slope", "polarity"), [(1, 1), (-1, 0)])
@pytest.mark.parametrize("samples", [2, 3, 11])
@pytest.mark.parametrize("change", [0.0, 0.1, 0.95, 3.3])
def test_a_ramp_gives_one_event_a_threshold(slope, polarity, samples, change):
    theta, duration = 0.2, 10_000
    times = np.linspace(0, duration, samples).astype(int)
    log = slope * change * times / duration
    found = one_pixel(log, times, theta, theta)
    number = int(change / theta)
    assert [p for _, p in found] == [polarity] * number
    expected = [theta * (k + 1) / change * duration for k in range(number)]
    np.testing.assert_allclose([t for t, _ in found], expected, atol=0.51)


def test_on_and_off_have_their_own_thresholds():
    found = one_pixel([0, 1, 0], [0, 100, 200], on=0.25, off=0.5)
    assert found == [(25, 1), (50, 1), (75, 1), (100, 1), (150, 0), (200, 0)]


def test_the_refractory_time_silences_but_the_reference_moves():
    ramp = one_pixel([0, 1], [0, 1000], 0.125, 0.125, refractory=300)
    assert ramp == [(125, 1), (500, 1), (875, 1)]
    assert one_pixel([0, 1, 1.1], [0, 1000, 2000], 0.125, 0.125, refractory=300) == ramp


STEPS = st.integers(-40, 40)


@given(
    st.lists(st.lists(STEPS, min_size=4, max_size=4), min_size=2, max_size=8),
    st.lists(st.integers(1, 300), min_size=7, max_size=7),
    st.lists(st.integers(1, 30), min_size=8, max_size=8),
    st.integers(0, 200),
)
def test_every_pixel_is_what_the_oracle_says(frames, gaps, thresholds, refractory):
    # Multiples of 1/16 have exact sums, so that an intensity may meet a threshold exactly.
    log = np.array(frames) / 16
    times = np.cumsum([0, *gaps])[: len(log)]
    on, off = np.array(thresholds).reshape(2, 4) / 16
    t, pixel, p = emit(log, times, on, off, refractory)
    assert np.array_equal(np.lexsort((pixel, t)), np.arange(len(t)))
    for k in range(4):
        mine = [(int(a), int(b)) for a, b in zip(t[pixel == k], p[pixel == k], strict=True)]
        args = log[:, k].tolist(), times.tolist(), on[k], off[k], refractory
        assert mine == pixel_events(*args)


def test_opposite_contrast_swaps_the_polarities():
    log = np.log(pictures(6).reshape(6, -1) + 0.02)
    theta = np.full(64, 0.2)
    times = np.arange(6) * 1000
    t, pixel, p = emit(log, times, theta, theta, 700)
    negative = emit(-log, times, theta, theta, 700)
    assert len(t) > 100
    for a, b in zip((t, pixel, 1 - p), negative, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_view_comes_back_and_moves_down_first():
    # Up and down cancel on a closed path: what a pixel gains it loses.
    found = record_images(pictures(1, 12), QUIET, 0)[0]
    for y in range(12):
        for x in range(12):
            mine = (found.x == x) & (found.y == y)
            on = int(found.p[mine].sum())
            assert abs(2 * on - int(mine.sum())) <= 1
    # Brightness grows downwards, and the view goes down, up again, and then sideways.
    ramp = np.broadcast_to(np.linspace(0.2, 1, 32)[:, None], (1, 32, 32))
    # Equal thresholds would be met exactly on the way back, where rounding decides.
    camera = replace(QUIET, threshold_on=0.02, threshold_off=0.021)
    found = record_images(np.ascontiguousarray(ramp), camera, 0)[0]
    third = (found.t - 1) * 3 // camera.duration_us
    assert found.p[third == 0].all()
    assert not found.p[third == 1].any()
    assert not (third == 2).any()
    assert (third == 0).any()
    assert (third == 1).any()


def test_the_border_of_a_bright_picture_is_no_edge():
    picture = np.ones((1, 10, 10))
    picture[0, 5, 5] = 0
    found = record_images(picture, QUIET, 0)[0]
    assert len(found)
    assert found.x.min() >= 4
    assert found.x.max() <= 6


def test_no_pixel_fires_within_its_refractory_time():
    camera = Camera(refractory_us=2000, background_hz=200.0)
    found = record_images(pictures(1), camera, 0)[0]
    for place in range(64):
        t = found.t[(found.y * 8 + found.x) == place]
        assert len(t) > 1
        assert np.diff(t).min() >= 2000


def test_background_events_are_poisson():
    camera = replace(QUIET, background_hz=5.0, duration_us=1_000_000, sample_us=100_000)
    counts = np.array([len(r) for r in record_images(np.zeros((300, 8, 8)), camera, 3)])
    mean = 5.0 * 64
    assert abs(counts.mean() - mean) < 5 * np.sqrt(mean / 300)
    assert 0.7 < counts.var() / mean < 1.3
    found = record_images(np.zeros((1, 8, 8)), replace(camera, background_hz=200.0), 3)[0]
    assert abs(found.p.mean() - 0.5) < 0.03
    assert abs(found.t.mean() / 1e6 - 0.5) < 0.02
    assert np.bincount(found.y * 8 + found.x, minlength=64).min() > 130


def test_a_leaking_reference_fires_at_its_rate():
    camera = replace(QUIET, leak_hz=10.0, duration_us=1_050_000)
    found = record_images(np.full((1, 4, 4), 0.5), camera, 0)[0]
    assert len(found) == 16 * 10
    assert found.p.all()
    assert np.unique(found.t).tolist() == [100_000 * k for k in range(1, 11)]


def test_thresholds_belong_to_the_sensor_and_are_floored():
    camera = replace(QUIET, threshold_sigma=0.1, threshold_on=0.05)
    twice = np.stack([pictures(1)[0]] * 2)
    a, b = record_images(twice, camera, 1)
    assert same(a, b)
    assert not same(a, record_images(twice, camera, 2)[0])
    assert not same(a, record_images(twice, QUIET, 1)[0])
    busiest = np.bincount(a.y * 8 + a.x).max()
    swing = np.log((1 + camera.eps) / camera.eps)
    assert busiest < 12 * swing / 0.01


def test_the_seed_decides_everything():
    first, again = (record_images(pictures(), Camera(), 7) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], record_images(pictures(), Camera(), 8)[0])


def test_an_image_alone_is_what_it_is_in_a_set():
    images = pictures(150, 16)  # more than are done at once
    camera = Camera(background_hz=1.0, duration_us=20_000)
    whole = record_images(images, camera, 5)
    for k in (0, 1, 127, 128, 149):
        alone = record_images(images[k : k + 1], camera, 5, first=k)[0]
        assert same(whole[k], alone)
    assert not same(whole[1], record_images(images[1:2], camera, 5)[0])


def test_recordings_look_like_those_of_a_real_camera():
    digits = load_digits().images[:100] / 16
    found = record_images(digits.repeat(2, 1).repeat(2, 2), Camera(), 0)
    number = np.mean([len(recording) for recording in found])
    # N-MNIST: 4,108 events a recording, of which 49.8 % are on.
    assert 2000 < number < 8000
    on = sum(int(recording.p.sum()) for recording in found) / sum(map(len, found))
    assert abs(on - 0.498) < 0.05


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold_on": 0.0}, "threshold_on is 0.0; it must be finite and above 0"),
        ({"threshold_off": float("nan")}, "threshold_off is nan"),
        ({"threshold_sigma": -0.1}, "threshold_sigma is -0.1; it must be finite and at least 0"),
        ({"background_hz": float("inf")}, "background_hz is inf"),
        ({"refractory_us": -1}, "refractory_us is -1"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"duration_us": 0}, "duration_us is 0"),
        ({"sample_us": 300_001}, "must not exceed"),
        ({"amplitude": 1.5}, "amplitude is 1.5"),
    ],
)
def test_impossible_knobs_are_refused(change, says):
    with pytest.raises(Refusal, match=says):
        Camera(**change)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.zeros((0, 4, 4)), "none of them 0"),
        (np.zeros((1, 4, 4), np.uint8), "divide bytes by 255"),
        (np.full((1, 4, 4), np.nan), "run from nan"),
        (np.full((1, 4, 4), 1.1), "to 1.1"),
        (np.full((1, 4, 4), -0.1), "from -0.1"),
    ],
)
def test_impossible_images_are_refused(images, says):
    with pytest.raises(Refusal, match=says):
        record_images(images, Camera(), 0)
