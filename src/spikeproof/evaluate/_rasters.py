"""Spikes of single samples, clean and attacked: in which layer the two part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikeproof.attacks import Victim
from spikeproof.seeding import derive
from spikeproof.spiking import recorded

NEURONS, STEPS = 64, 64  # of a layer, at most, that are kept


@dataclass(frozen=True)
class Raster:
    """What a layer did on one sample, before and after an attack.

    ``clean`` and ``attacked`` hold the spikes of ``neurons`` one after the other, of each the
    first ``steps``; ``parted`` is, of all neurons and steps, the share in which the two differ.
    """

    sample: int
    layer: str
    T: int
    steps: int
    neurons: tuple[int, ...]  # their numbers, spread over the layer
    clean: tuple[bool, ...]
    attacked: tuple[bool, ...]
    parted: float


def rasters(
    model: nn.Module, clean: Tensor, attacked: Tensor, *, sample: int, seed: int
) -> tuple[Raster, ...]:
    """Returns the rasters of one sample (a batch of one), layer after layer.

    A model that draws noise draws the same for both.
    """
    before, after = (_trains(model, x, seed) for x in (clean, attacked))
    found = []
    for name, train in before.items():
        kept = torch.linspace(0, train.shape[1] - 1, min(NEURONS, train.shape[1])).round().long()
        rows = [spikes[:STEPS, kept].T.flatten().tolist() for spikes in (train, after[name])]
        found.append(
            Raster(
                sample=sample,
                layer=name,
                T=len(train),
                steps=min(STEPS, len(train)),
                neurons=tuple(kept.tolist()),
                clean=tuple(rows[0]),
                attacked=tuple(rows[1]),
                parted=train.ne(after[name]).double().mean().item(),
            )
        )
    return tuple(found)


def _trains(model: nn.Module, x: Tensor, seed: int) -> dict[str, Tensor]:
    victim = Victim(model)
    victim.redraw(derive(seed, "trail"))
    with torch.no_grad(), recorded(victim.model, trains=True) as layers:
        victim.logits(x)
    return {name: layer.trains[0] for name, layer in layers.items()}
