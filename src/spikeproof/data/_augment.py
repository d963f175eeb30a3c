"""Random views of a batch; the time steps of one sample share one transform."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from spikeproof.errors import Refusal, within


def pad_crop(x: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Returns each sample cut at a random place out of itself with a black edge around it."""
    down = _integers(x, 0, 2 * width, generator).flatten()
    right = _integers(x, 0, 2 * width, generator).flatten()
    planes = pad(x, (width,) * 4).flatten(1, -3)
    windows = planes.unfold(2, x.shape[-2], 1).unfold(3, x.shape[-1], 1)  # no copies
    return windows[torch.arange(len(x), device=x.device), :, down, right].view_as(x)


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Returns each sample mirrored left to right, or not."""
    chosen = _integers(x, 0, 1, generator).bool().view(-1, *[1] * (x.ndim - 1))
    return torch.where(chosen, x.flip(-1), x)


def cutout(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Returns each sample with a black square of this side, its centre anywhere in the picture.

    DeVries and Taylor, https://arxiv.org/abs/1708.04552.
    """
    return _with_hole(x, torch.full((len(x), 1), size, device=x.device), generator)


def event_cutout(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Returns each sample with a silent square of a side between 1 and ``size``.

    Li et al., https://arxiv.org/abs/2203.06145.
    """
    return _with_hole(x, _integers(x, 1, size, generator), generator)


def roll(x: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Returns each sample moved by up to so many pixels; what leaves comes in on the other side."""
    height, width = x.shape[-2:]
    down = _integers(x, -pixels, pixels, generator)
    right = _integers(x, -pixels, pixels, generator)
    rows = (torch.arange(height, device=x.device) - down) % height
    columns = (torch.arange(width, device=x.device) - right) % width
    return _gathered(x, rows, columns)


def rotate(x: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Returns each sample turned by up to so many degrees either way.

    Each pixel takes the value of the nearest one, so counts stay counts; corners become black.
    """
    height, width = x.shape[-2:]
    share = 2 * torch.rand(len(x), generator=generator, device=generator.device) - 1
    angle = share.to(x.device) * math.radians(degrees)
    theta = torch.zeros(len(x), 2, 3, device=x.device)
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos()
    theta[:, 0, 1] = angle.sin() * height / width
    theta[:, 1, 0] = -angle.sin() * width / height
    planes = x.flatten(1, -3)
    grid = affine_grid(theta, list(planes.shape), align_corners=False).to(x.dtype)
    return grid_sample(planes, grid, mode="nearest", align_corners=False).view_as(x)


@dataclass(frozen=True)
class Augmentation:
    """Which random views are taken, in this order; what is 0 or off is left out.

    ``pad``, ``cutout`` and ``roll`` are in pixels, ``rotate`` in degrees. On events the square of
    ``cutout`` has a random side.
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0
    roll: int = 0
    rotate: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("pad", 1024), ("cutout", 1024), ("roll", 1024), ("rotate", 360)):
            within(name, getattr(self, name), 0, most)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if x.ndim not in (4, 5):
            raise Refusal(
                f"a batch has the shape {tuple(x.shape)}; images are (B, C, H, W) and events "
                "(B, T, C, H, W); add the missing axis"
            )
        if self.pad:
            x = pad_crop(x, self.pad, generator)
        if self.roll:
            x = roll(x, self.roll, generator)
        if self.rotate:
            x = rotate(x, self.rotate, generator)
        if self.flip:
            x = flip(x, generator)
        if self.cutout:
            x = (cutout if x.ndim == 4 else event_cutout)(x, self.cutout, generator)
        return x


def _integers(x: Tensor, low: int, high: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(low, high + 1, (len(x), 1), generator=generator, device=generator.device)
    return drawn.to(x.device)


def _gathered(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    planes = x.flatten(1, -3)
    sample = torch.arange(len(x), device=x.device)[:, None, None, None]
    plane = torch.arange(planes.shape[1], device=x.device)[None, :, None, None]
    found = planes[sample, plane, rows[:, None, :, None], columns[:, None, None, :]]
    return found.view(*x.shape[:-2], rows.shape[1], columns.shape[1])


def _with_hole(x: Tensor, side: Tensor, generator: torch.Generator) -> Tensor:
    height, width = x.shape[-2:]
    inside = []
    for length in (height, width):
        start = _integers(x, 0, length - 1, generator) - side // 2
        place = torch.arange(length, device=x.device)
        inside.append((place >= start) & (place < start + side))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return x.masked_fill(hole.view(len(x), *[1] * (x.ndim - 3), height, width), 0)
