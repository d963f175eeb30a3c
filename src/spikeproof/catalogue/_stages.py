"""A recipe with stages as plain recipes in a row, and how a network passes from one to the next."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spikeproof.catalogue._recipe import Recipe, Stage
from spikeproof.compress import apply, calibrate, convert, estimate_norms, masks_of
from spikeproof.data import Split
from spikeproof.seeding import generator
from spikeproof.spiking import SpikingNetwork


def in_stages(recipe: Recipe) -> list[tuple[Stage, Recipe]]:
    """Returns the stages of a recipe with what each trains, a recipe without stages.

    A recipe that prunes and names no stages is one of a single stage.
    """
    if not recipe.stages:
        only = Stage("training", recipe.network.analog, prune=recipe.prune)
        return [(only, recipe)]
    return [(stage, _plain(recipe, stage)) for stage in recipe.stages]


def _plain(recipe: Recipe, stage: Stage) -> Recipe:
    plan = recipe.train
    plan = replace(
        plan,
        epochs=stage.epochs or plan.epochs,
        optimizer=replace(plan.optimizer, lr=stage.lr or plan.optimizer.lr),
    )
    return replace(
        recipe,
        train=plan,
        network=replace(recipe.network, analog=stage.analog),
        objective=stage.objective or recipe.objective,
        prune=stage.prune,
        stages=(),
    )


def handed_over(
    before: tuple[Recipe, SpikingNetwork],
    now: Recipe,
    network: SpikingNetwork,
    samples: Split,
    *,
    fresh: bool = False,
) -> dict[str, float]:
    """Fills the network of a stage from that of the stage before it; returns its thresholds.

    From an analog network to a spiking one, weights are converted, thresholds calibrated on
    training samples, and norms given the statistics of these. A ``fresh`` one takes masks alone.
    """
    recipe, old = before
    if fresh:
        apply(network, masks_of(old))
        return {}
    if recipe.network.analog == now.network.analog:
        network.load_state_dict(old.state_dict())
        return {}
    convert(old, network)
    inputs = calibration_batches(now, samples, next(network.parameters()).device)
    thresholds = calibrate(network, inputs, now.calibration)
    estimate_norms(network, inputs)
    return thresholds


def calibration_batches(recipe: Recipe, samples: Split, device: torch.device) -> list[Tensor]:
    """Returns the inputs that a calibration sees: training samples in an order of the seed's."""
    knobs = recipe.calibration
    order = torch.randperm(len(samples), generator=generator(recipe.train.seed, "calibration"))
    parts = order[: knobs.batches * knobs.batch].split(knobs.batch)
    return [samples.batch(index)[0].to(device) for index in parts]
