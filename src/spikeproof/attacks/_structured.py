"""Attacks that a scene or a sensor could produce (DVS-Attacks: Marchisio et al., IJCNN 2021).

Not minimal and without a gradient: events at places that do not depend on the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._attack import Search
from spikeproof.attacks._event_threats import Flips
from spikeproof.attacks._flip_trials import flips
from spikeproof.attacks._standing import Standing
from spikeproof.attacks._threat import Threat


@dataclass(frozen=True)
class FrameEvents(Search):
    """A border of 1 to ``width`` pixels around the view is active in every step."""

    width: int = 2
    kind: Literal["frame_events"] = "frame_events"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)
    blind = True

    @override
    def __call__(self, s: Standing) -> None:
        *_, height, width = s.x.shape
        for step in s.steps(self.width):
            edge = torch.ones((height, width), dtype=torch.bool, device=s.x.device)
            edge[step + 1 : height - step - 1, step + 1 : width - step - 1] = False
            s.look(_lit(s, edge))


@dataclass(frozen=True)
class CornerEvents(Search):
    """Two lines grow from one corner along the edges until the model errs; each corner in turn."""

    kind: Literal["corner_events"] = "corner_events"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)
    blind = True

    @override
    def __call__(self, s: Standing) -> None:
        *_, height, width = s.x.shape
        corners = [(i, j) for i in (0, height - 1) for j in (0, width - 1)]
        for step in s.steps(max(height, width)):
            for row, column in corners:
                i = torch.arange(height, device=s.x.device)[:, None]
                j = torch.arange(width, device=s.x.device)
                along = (i == row) & ((j - column).abs() <= step)
                down = (j == column) & ((i - row).abs() <= step)
                s.look(_lit(s, along | down))


@dataclass(frozen=True)
class DashEvents(Search):
    """A short line moves by one pixel in every step, along each row; it grows to ``length``."""

    length: int = 4
    kind: Literal["dash_events"] = "dash_events"
    fits: ClassVar[tuple[type[Threat], ...]] = (Flips,)
    blind = True

    @override
    def __call__(self, s: Standing) -> None:
        _, steps, _, height, width = s.x.shape
        time = torch.arange(steps, device=s.x.device)[:, None, None, None]
        i = torch.arange(height, device=s.x.device)[:, None]
        j = torch.arange(width, device=s.x.device)
        for length in range(1, self.length + 1):
            for row in s.steps(height):
                s.look(_lit(s, (i == row) & ((j - time) % width < length)))


def _lit(s: Standing, active: Tensor) -> Tensor:
    """Returns the clean frames with an event more in the active entries, where one has room."""
    room = s.clean < flips(s).high
    return s.clean + (active & room).to(s.clean.dtype)
