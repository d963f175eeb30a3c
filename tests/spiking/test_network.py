from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    IF,
    LIF,
    Analog,
    Direct,
    Encode,
    Encoder,
    Frames,
    Latency,
    Phase,
    Poisson,
    Rate,
    Spiking,
    SpikingNetwork,
)
from tests.contracts.model import assert_model

STEPS = 6


def layers(*, opens_time: bool, norm: bool = False) -> nn.Sequential:
    """A stem, two layers of neurons and a head; equal weights at every call."""
    with isolated(3, "network"):
        conv, deep, head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(16, 3)
    for i, module in enumerate((conv, deep, head)):
        source = generator(i, "eighths")  # sums of eighths are exact: no rounding, no doubt
        for value in module.parameters():
            value.data = torch.randint(-8, 10, value.shape, generator=source) / 8
    batch_norm = nn.BatchNorm2d(4).eval()
    batch_norm.running_mean += 0.3
    batch_norm.running_var *= 2.0
    return nn.Sequential(
        conv,
        batch_norm if norm else nn.Identity(),
        Spiking(LIF(learn_theta=True), STEPS, opens_time=opens_time),
        deep,
        Spiking(IF(theta=2.0, reset="soft"), STEPS),
        nn.Flatten(),
        head,
    )


def network(encoder: Encoder) -> SpikingNetwork:
    return SpikingNetwork(Encode(encoder, STEPS), layers(opens_time=encoder.static))


def images(batch: int = 3) -> torch.Tensor:
    return torch.randint(0, 65, (batch, 2, 6, 6), generator=generator(0, "images")) / 64


@pytest.mark.parametrize(
    "encoder", [Direct(), Poisson(), Phase(), Rate(), Latency(), Frames()], ids=repr
)
def test_contract(encoder):
    x = images()
    if encoder.events:
        x = torch.stack([x * t / STEPS for t in range(1, STEPS + 1)], 1)
    assert_model(network(encoder), x, 3)


@pytest.mark.parametrize("norm", [False, True])
def test_time_opened_late_changes_nothing(norm):
    """The stem once, and its current held, is the stem at every step on the repeated image."""
    late = SpikingNetwork(Encode(Direct(), STEPS), layers(opens_time=True, norm=norm))
    early = SpikingNetwork(Encode(Frames(), STEPS), layers(opens_time=False, norm=norm))
    if norm:  # not exact in binary: float64, where no membrane comes near enough to the threshold
        late, early = late.double(), early.double()
    x = images().to(next(late.parameters()).dtype).requires_grad_()
    frames = x.unsqueeze(1).expand(-1, STEPS, -1, -1, -1)
    a, b = late.steps(x), early.steps(frames)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=0 if not norm else 1e-12)
    assert len(a.unique()) > 10
    for model, logits in ((late, a), (early, b)):
        (logits * torch.linspace(-1, 1, 3)).sum().backward()
        model.slope, x.grad = x.grad.clone(), None
    torch.testing.assert_close(late.slope, early.slope, rtol=1e-4, atol=1e-5)
    for p, q in zip(late.parameters(), early.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4)


def test_logits_are_the_mean_over_time():
    model, x = network(Direct()), images()
    steps = model.steps(x)
    assert steps.shape == (STEPS, 3, 3)
    torch.testing.assert_close(model(x), sum(steps) / STEPS)


@pytest.mark.parametrize("encoder", [Direct(), Poisson(), Phase()], ids=repr)
def test_samples_do_not_mix_to_the_bit(encoder):
    model, x = network(encoder).eval(), images(5)
    logits = model(x)
    for i in range(5):
        assert torch.equal(model(x[i : i + 1])[0], logits[i])
    order = torch.tensor([4, 0, 2, 2])
    assert torch.equal(model(x[order]), logits[order])


def test_a_frame_changes_no_step_before_it():
    model = network(Frames())
    x = torch.stack([images() for _ in range(STEPS)], 1)
    steps = model.steps(x)
    for t in range(STEPS):
        other = x.clone()
        other[:, t] = 1 - other[:, t]
        changed = model.steps(other)
        assert torch.equal(changed[:t], steps[:t])
        assert not torch.equal(changed[t:], steps[t:])


def test_state_dict_round_trip():
    model, other = network(Direct()), network(Direct())
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images()), model(images()))


def test_analog_activations_by_hand():
    x = torch.tensor([-1.0, 0.0, 0.24, 0.26, 1.0, 1.74, 1.9, 2.0, 2.1], requires_grad=True)
    neurons = Spiking(IF(theta=2.0), 4)
    relu = Analog(neurons)(x)
    assert relu.tolist() == pytest.approx([0, 0, 0.12, 0.13, 0.5, 0.87, 0.95, 1, 1.05])
    floor = Analog(neurons, levels=4)(x)  # floor(4 x/2 + 1/2) / 4
    assert floor.tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    (d_relu,) = torch.autograd.grad(relu.sum(), x)
    assert d_relu.tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    (d_floor,) = torch.autograd.grad(floor.sum(), x)
    assert d_floor.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0]


def test_the_slope_of_a_clip_is_flat():
    """A second derivative of the twin is that of a piecewise line: its slope does not move."""
    x = torch.linspace(-1, 3, 9, requires_grad=True)
    w = torch.linspace(1, 2, 9, requires_grad=True)
    y = Analog(Spiking(IF(), 4), levels=4)(w * x)
    (d_x,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    inside = (w * x >= 0) & (w * x <= 1)
    torch.testing.assert_close(d_x, w * inside)
    (d_w,) = torch.autograd.grad(d_x.sum(), w)
    torch.testing.assert_close(d_w, inside.to(w.dtype))


@pytest.mark.parametrize(
    ("encoder", "opens"),
    [
        (Direct(), [False]),
        (Direct(), [True, True]),
        (Direct(), [False, True]),
        (Phase(), [True]),
        (Phase(), [False, True]),
    ],
)
def test_time_is_opened_exactly_once(encoder, opens):
    neurons = [Spiking(IF(), 2, opens_time=opening) for opening in opens]
    layers = nn.Sequential(nn.Flatten(), *neurons)
    with pytest.raises(Refusal, match="opens_time"):
        SpikingNetwork(Encode(encoder, 2), layers)


@pytest.mark.parametrize("channels", [1, 2])
def test_maps_lie_with_channels_last_on_a_cpu_and_mean_the_same(channels):
    with isolated(5, "layout"):
        body = nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            Spiking(IF(), STEPS, opens_time=True),
            nn.Conv2d(4, 8, 3),
            Spiking(IF(), STEPS),
            nn.Flatten(),
            nn.Linear(32, 3),
        )
    model = SpikingNetwork(Encode(Direct(), STEPS), body)
    seen = []
    for layer in (body[1], body[3]):
        layer.register_forward_hook(lambda _, given, out: seen.extend([given[0], out]))
    x = torch.rand((3, channels, 6, 6), generator=generator(1, "layout"))
    logits = model(x)
    last = [map_.is_contiguous(memory_format=torch.channels_last) for map_ in seen]
    assert last == [True] * 4
    torch.testing.assert_close(logits, body(x).unflatten(0, (STEPS, 3)).mean(0))
