from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import PGD, Attack
from spikeproof.errors import Refusal
from spikeproof.evaluate import domains
from spikeproof.evaluate._domains import Behind, _encoded, joined
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import (
    Direct,
    Frames,
    Latency,
    Phase,
    Poisson,
    Rate,
    drawing_from,
)

ENCODERS = (Direct(), Phase(), Phase(weighted=True), Rate(), Latency(), Poisson(3))


def network(encoder, steps=10):
    setting = Setting(channels=1, size=4, T=steps, classes=3, encoder=encoder)
    net = build(MLP((16,)), setting, 5).eval()
    with torch.no_grad():
        net.layers[1].weight.mul_(2)
    return net


def some(count=12):
    grey = torch.randint(0, 256, (count, 1, 4, 4), generator=generator(0, "grey")) / 255
    return grey, torch.arange(count) % 3


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_a_network_behind_its_encoder_is_the_network(encoder):
    net = network(encoder)
    x, _ = some()
    with torch.no_grad():
        code = _encoded(net, x)
        assert code.shape == (12, 10, 1, 4, 4)
        assert torch.allclose(Behind(net)(code), net(x), atol=1e-5)
    assert net.layers[3].opens_time == encoder.static  # the network itself is as it was


def own(net, x):
    with torch.no_grad():
        return net(x).argmax(1)


@pytest.mark.parametrize("encoder", [Phase(), Phase(weighted=True)], ids=str)
def test_spikes_rounded_are_the_clean_ones_again(encoder):
    net = network(encoder)
    x, _ = some()
    # half of the smallest weight of a bit is 2^-9
    found = domains(net, x, own(net, x), 2**-9 * 0.9 if encoder.weighted else 0.3)
    assert all(found.clean)
    assert not any(found.legal)
    assert encoder.weighted or any(found.spikes)
    assert found.entries == (16, 160)


def test_an_attack_on_images_goes_through_the_encoder():
    net = network(Phase())
    x, _ = some()
    found = domains(net, x, own(net, x), 0.3, attack=Attack(PGD(20)))
    assert any(found.sensor)
    # fallen images differ in their code, those that stand are clean
    for fell, flipped in zip(found.sensor, found.flipped, strict=True):
        assert (flipped > 0) == fell


def test_copies_of_an_image_are_legal_when_they_are_one_image():
    net = network(Direct(), 4)
    x, _ = some()
    found = domains(net, x, own(net, x), 0.2)
    assert found.entries == (16, 64)
    assert sum(found.spikes) >= sum(found.legal)
    assert any(found.spikes)


def test_a_sample_falls_in_any_company():
    net = network(Phase())
    x, _ = some()
    y, ids = own(net, x), torch.arange(12)
    whole = domains(net, x, y, 0.2, ids=ids)
    parts = [domains(net, x[r], y[r], 0.2, ids=ids[r]) for r in (slice(0, 5), slice(5, 12))]
    assert joined(parts) == whole


def test_a_network_that_draws_noise_is_attacked_behind_one_field_of_it():
    net = drawing_from(network(Poisson()), torch.Generator().manual_seed(1))
    x, y = some()
    assert domains(net, x, y, 0.3) == domains(net, x, y, 0.3)


def test_what_has_no_spikes_before_it_is_refused():
    x, y = some()
    with pytest.raises(Refusal, match="no encoder"):
        domains(nn.Flatten(), x, y, 0.1)
    with pytest.raises(Refusal, match="event frames"):
        domains(network(Frames()), x[:, None].expand(-1, 10, -1, -1, -1), y, 0.1)
    with pytest.raises(Refusal, match=r"span 0\.\d+..2"):
        domains(network(Phase()), x / x.max() * 2 + 1e-9, y, 0.1)
