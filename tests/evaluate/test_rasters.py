from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import Linf
from spikeproof.evaluate import Conditions, diagnose, read_diagnosis
from spikeproof.evaluate._rasters import NEURONS, STEPS, rasters
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import IF, Direct, Encode, Spiking, SpikingNetwork, recorded


def counters(T: int, *weights: float) -> SpikingNetwork:
    """Neurons that fire whenever the weighted pixel adds up to one, and reset to zero."""
    with torch.no_grad(), isolated(0, "weights"):
        layer = nn.Linear(1, len(weights), bias=False)
        layer.weight.copy_(torch.tensor(weights)[:, None])
    spiking = Spiking(IF(theta=1.0), T, opens_time=True)
    return SpikingNetwork(Encode(Direct(), T), nn.Sequential(nn.Flatten(), layer, spiking)).eval()


def test_the_spikes_of_a_neuron_are_those_of_its_sum():
    pixel = torch.full((1, 1, 1, 1), 0.5)
    (raster,) = rasters(counters(4, 1.0, 2.0, 0.0), pixel, pixel / 2, sample=3, seed=0)
    # 0.5 a step fires every second step, 1.0 every one; half of it every fourth and second
    assert raster.clean == (False, True, False, True, *[True] * 4, *[False] * 4)
    assert raster.attacked == (*[False] * 3, True, False, True, False, True, *[False] * 4)
    assert raster.parted == pytest.approx((1 + 2) / 12)
    assert (raster.sample, raster.layer, raster.T, raster.neurons) == (3, "layers.2", 4, (0, 1, 2))


def test_of_many_neurons_and_steps_some_are_kept_and_all_are_counted():
    T, count = STEPS + 10, 3 * NEURONS
    weights = torch.rand(count, generator=generator(0, "weights")).tolist()
    model, pixel = counters(T, *weights), torch.full((1, 1, 1, 1), 0.9)
    (raster,) = rasters(model, pixel, pixel * 0.8, sample=0, seed=0)
    assert (raster.T, raster.steps, len(raster.neurons)) == (T, STEPS, NEURONS)
    assert raster.neurons[0] == 0
    assert raster.neurons[-1] == count - 1
    trains = []
    for x in (pixel, pixel * 0.8):
        with recorded(model, trains=True) as layers, torch.no_grad():
            model(x)
        trains.append(layers["layers.2"].trains[0])
    assert raster.parted == pytest.approx((trains[0] != trains[1]).double().mean().item())
    kept = trains[0][:STEPS, list(raster.neurons)]
    assert torch.tensor(raster.clean).reshape(NEURONS, STEPS).equal(kept.T)


def test_equal_inputs_part_nowhere_even_where_noise_is_drawn():
    from spikeproof.spiking import Poisson

    model = build(MLP((16,)), Setting(channels=1, size=4, T=8, encoder=Poisson(3)), 0).eval()
    x = torch.rand((1, 1, 4, 4), generator=generator(0, "x"))
    assert [r.parted for r in rasters(model, x, x.clone(), sample=0, seed=5)] == [0.0]


def test_a_diagnosis_keeps_them_of_its_first_samples_and_gives_them_back(
    net, handwriting, tmp_path
):
    how = {"only": ("rasters",), "conditions": Conditions(limit=6)}
    found = diagnose(net, handwriting, Linf(0.1), out=tmp_path / "d", **how)
    assert [r.sample for r in found.rasters] == [0, 1, 2, 3]
    assert all(0 < r.parted < 1 for r in found.rasters)
    assert read_diagnosis(tmp_path / "d" / "record.json").rasters == found.rasters
    assert diagnose(net, handwriting, Linf(0.1), **how).rasters == found.rasters
    assert found.seen == ()
