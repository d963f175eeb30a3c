"""An event camera that looks at pictures, moving as the one that recorded N-MNIST did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from spikeproof.data._recordings import Array, Events
from spikeproof.errors import Refusal
from spikeproof.seeding import derive

Candidates = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]

_LOWEST_THRESHOLD = 0.01
_PIXELS_AT_ONCE = 2**15  # the state of so many pixels stays in the processor's cache
_POSITIVE = ("threshold_on", "threshold_off", "eps", "duration_us", "sample_us")


@dataclass(frozen=True)
class Camera:
    """The knobs of a simulated event camera.

    A pixel compares the logarithm of its intensity plus ``eps`` with a reference and fires when
    they differ by its threshold. The thresholds of the pixels scatter by ``threshold_sigma``
    around the mean. A pixel is silent for ``refractory_us`` after an event, fires
    ``background_hz`` times a second for no reason, and ``leak_hz`` times a second because its
    reference leaks. In ``duration_us`` the view takes three saccades of equal length along a
    closed triangle, ``amplitude`` picture widths wide and high; it is rendered every
    ``sample_us``. Beyond its edges a picture goes on as its outermost pixels.
    """

    threshold_on: float = 0.2
    threshold_off: float = 0.2
    threshold_sigma: float = 0.03
    refractory_us: int = 500
    background_hz: float = 0.1
    leak_hz: float = 0.0
    eps: float = 0.02
    duration_us: int = 300_000
    sample_us: int = 1_000
    amplitude: float = 0.15

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            positive = field.name in _POSITIVE
            if not math.isfinite(value) or value < 0 or (positive and value == 0):
                raise Refusal(
                    f"{field.name} is {value}; it must be finite and "
                    f"{'above' if positive else 'at least'} 0; the default is {field.default}"
                )
        if self.sample_us > self.duration_us:
            raise Refusal(
                f"sample_us is {self.sample_us}; it must not exceed duration_us "
                f"({self.duration_us}); render more often"
            )
        if self.amplitude > 1:
            raise Refusal(
                f"amplitude is {self.amplitude}; it is a share of the picture's width in 0..1; "
                "divide pixels by the width"
            )


def record_images(images: Array, camera: Camera, seed: int, *, first: int = 0) -> list[Events]:
    """Returns what the camera records of each image of (N, H, W) floats in [0, 1].

    Recording ``k`` depends on its image, the camera, the seed and ``first + k``, and on no other
    image: a part of a set, with its ``first``, gives the same recordings as the whole. The
    thresholds of the pixels depend on the seed alone, for all recordings come from one sensor.
    """
    _check_images(images)
    pattern = np.random.default_rng(derive(seed, "camera", "thresholds"))
    thresholds = [
        np.maximum(
            pattern.normal(mean, camera.threshold_sigma, images.shape[1:]), _LOWEST_THRESHOLD
        )
        for mean in (camera.threshold_on, camera.threshold_off)
    ]
    at_once = max(1, _PIXELS_AT_ONCE // thresholds[0].size)
    recordings: list[Events] = []
    for start in range(0, len(images), at_once):
        block = images[start : start + at_once]
        recordings += _record_block(block, camera, thresholds, seed, first + start)
    return recordings


def emit(
    log_frames: Iterable[Array],
    times: npt.NDArray[np.int64],
    theta_on: Array,
    theta_off: Array,
    refractory_us: int,
    noise: Sequence[Candidates] = (),
) -> Candidates:
    """Returns time, pixel and polarity of every event of (P,) frames of log intensity.

    The first frame is the reference; between two frames the intensity is a straight line. An
    event moves the reference by one threshold even where the refractory time silences it.
    ``noise`` is more events, subject to the same refractory time. Sorted by time, then pixel.
    """
    found = [*_crossings(log_frames, times, theta_on, theta_off), *noise]
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8)
    t, pixel, p = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((t, pixel))
    order = order[_awake(t[order], pixel[order], refractory_us)]
    order = order[np.lexsort((pixel[order], t[order]))]
    return t[order], pixel[order], p[order]


def _crossings(
    log_frames: Iterable[Array],
    times: npt.NDArray[np.int64],
    theta_on: Array,
    theta_off: Array,
) -> Iterator[Candidates]:
    frames = iter(log_frames)
    before = next(frames)
    reference = before.copy()
    for start, end, now in zip(times[:-1], times[1:], frames, strict=True):
        change = now - reference
        hit = np.flatnonzero((change >= theta_on) | (change <= -theta_off))
        if len(hit):
            rising = change[hit] > 0
            theta = np.where(rising, theta_on[hit], -theta_off[hit])
            crossed = np.floor(change[hit] / theta).astype(np.int64)
            ends = np.cumsum(crossed)
            owner = np.repeat(np.arange(len(hit)), crossed)
            nth = np.arange(1, ends[-1] + 1) - (ends - crossed)[owner]
            old = before[hit] - reference[hit]
            share = (nth * theta[owner] - old[owner]) / (change[hit] - old)[owner]
            t = np.rint(start + np.clip(share, 0, 1) * (end - start)).astype(np.int64)
            reference[hit] += crossed * theta
            yield t, hit[owner], rising[owner].astype(np.uint8)
        before = now


def _awake(
    t: npt.NDArray[np.int64], pixel: npt.NDArray[np.int64], refractory_us: int
) -> npt.NDArray[np.bool_]:
    """Marks the events outside the refractory time of their pixel; sorted by pixel, then time."""
    keep = np.zeros(len(t), dtype=bool)
    key = pixel * (int(t.max(initial=0)) + refractory_us + 1) + t
    # One round keeps one event of every pixel that has any left.
    head = np.flatnonzero(np.diff(pixel, prepend=-1))
    while len(head):
        keep[head] = True
        after = np.maximum(np.searchsorted(key, key[head] + refractory_us), head + 1)
        inside = after < len(t)
        head, after = head[inside], after[inside]
        head = after[pixel[after] == pixel[head]]
    return keep


def _record_block(
    images: Array, camera: Camera, thresholds: list[Array], seed: int, first: int
) -> list[Events]:
    count, height, width = images.shape
    pixels = height * width
    times = np.append(np.arange(0, camera.duration_us, camera.sample_us), camera.duration_us)
    theta_on, theta_off = (np.tile(theta.ravel(), count) for theta in thresholds)
    noise = [
        _noise(camera, k * pixels, pixels, derive(seed, "camera", first + k)) for k in range(count)
    ]
    t, pixel, p = emit(
        _log_frames(images, camera, times, theta_on),
        times,
        theta_on,
        theta_off,
        camera.refractory_us,
        noise,
    )
    owner, place = np.divmod(pixel, pixels)
    order = np.argsort(owner, kind="stable")
    parts = np.split(order, np.searchsorted(owner[order], np.arange(1, count)))
    return [
        Events(
            t[part],
            (place[part] % width).astype(np.uint16),
            (place[part] // width).astype(np.uint16),
            p[part],
            height,
            width,
        )
        for part in parts
    ]


def _log_frames(
    images: Array, camera: Camera, times: npt.NDArray[np.int64], theta_on: Array
) -> Iterator[Array]:
    _, height, width = images.shape
    reach = camera.amplitude * width / 2
    margin = math.ceil(reach) + 1
    padded = np.pad(
        images.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)), mode="edge"
    )
    # A reference that sinks is the same as an intensity that rises.
    leak = theta_on * (camera.leak_hz * 1e-6)
    for t, (across, down) in zip(times, _path(times / camera.duration_us), strict=True):
        (x, fx), (y, fy) = (divmod(margin + reach * shift, 1) for shift in (across, down))
        view = padded[:, int(y) : int(y) + height + 1, int(x) : int(x) + width + 1]
        rows = view[:, :-1] + fy * (view[:, 1:] - view[:, :-1])
        frame = rows[..., :-1] + fx * (rows[..., 1:] - rows[..., :-1])
        yield np.log(frame + camera.eps).ravel() + leak * t


def _path(progress: Array) -> Array:
    """Returns (S, 2) positions in -1..1 on a triangle; every side starts and ends at rest."""
    corners = np.array([(-1.0, -1.0), (0.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
    side = np.minimum(3 * progress, 2).astype(np.int64)
    share = (1 - np.cos(np.pi * (3 * progress - side)))[:, None] / 2
    return corners[side] + share * (corners[side + 1] - corners[side])


def _noise(camera: Camera, start: int, pixels: int, seed: int) -> Candidates:
    rng = np.random.default_rng(seed)
    count = rng.poisson(camera.background_hz * pixels * camera.duration_us * 1e-6)
    t = rng.integers(0, camera.duration_us, count, endpoint=True)
    pixel = rng.integers(start, start + pixels, count)
    return t, pixel, rng.integers(0, 2, count, dtype=np.uint8)


def _check_images(images: Array) -> None:
    if images.ndim != 3 or not images.size or not np.issubdtype(images.dtype, np.floating):
        raise Refusal(
            f"images are {images.dtype} of shape {images.shape}; the camera looks at "
            "floats of shape (N, H, W), none of them 0; convert, and divide bytes by 255"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise Refusal(
            f"intensities run from {low} to {high}; they lie in 0..1 and are finite; "
            "rescale the images, and replace what is missing"
        )
