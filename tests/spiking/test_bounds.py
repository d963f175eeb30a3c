from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.attacks import JUDGED, L0, L1, Flips, Linf, region
from spikeproof.errors import Refusal
from spikeproof.models import CNN, MLP, Setting, SEWResNet, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    IF,
    LIF,
    Bounds,
    Direct,
    Encode,
    Frames,
    Interval,
    Poisson,
    Spiking,
    SpikingNetwork,
    certified_margins,
    margins,
    smoothed,
)
from spikeproof.spiking._bounds import entered
from tests.oracles.certificates import breakpoints, flipped, grid

NEURONS = [
    LIF(tau=0.5, reset="hard"),
    LIF(tau=0.75, reset="soft"),
    IF(reset="hard"),
    IF(reset="soft"),
]
NAMES = [f"{neuron.kind}-{neuron.reset}" for neuron in NEURONS]


def network(model, neuron, encoder, steps, seed, size=2):
    """A network whose norms have statistics and whose neurons fire."""
    net = build(model, Setting(1, size, 3, steps, neuron, encoder), seed).eval()
    draw = generator(seed, "weights of a test")
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=draw) / 3)
            part.running_var.copy_(torch.rand(part.num_features, generator=draw) + 0.2)
            with torch.no_grad():
                part.bias.copy_(torch.randn(part.num_features, generator=draw) / 2)
        if isinstance(part, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                part.weight.mul_(1.5)
                if part.bias is not None:
                    part.bias.copy_(torch.randn(len(part.bias), generator=draw) / 3)
    return net


def found(net, inputs, y):
    """The margins that the network itself has, whatever is asked at once."""
    with torch.no_grad():
        logits = net(inputs).double()
    return logits[:, y][:, None] - logits


@pytest.mark.slow  # with the next test a thousand cases, each asked all that an attacker may
@pytest.mark.parametrize("neuron", NEURONS, ids=NAMES)
def test_bounds_contain_the_exact_answer_of_flipped_events(neuron):
    stands = certified = cases = 0
    for seed in range(13):
        steps, k = 1 + seed % 3, 1 + seed % 2
        net = network(MLP((4,) if seed % 4 else (5, 3)), neuron, Frames(), steps, seed)
        clean = (torch.rand((10, steps, 1, 2, 2), generator=generator(seed, "x")) < 0.4).float()
        labels = net(clean).argmax(1)
        bounds = certified_margins(net, region(clean.double(), Flips(k), JUDGED), labels)
        for x, y, lower in zip(clean, labels.tolist(), bounds, strict=True):
            truth = found(net, torch.from_numpy(flipped(x.numpy(), k)), y).amin(0)
            assert bool((lower <= truth).all())
            certified += bool((lower > 0).sum() == 2)  # of the two other classes
            stands += bool((truth > 0).sum() == 2)
            cases += 1
    assert cases == 130
    assert 0 < certified <= stands < cases


@pytest.mark.slow
@pytest.mark.parametrize("neuron", NEURONS, ids=NAMES)
def test_bounds_contain_the_exact_answer_of_one_pixel(neuron):
    """Between breakpoints of the first layer's trains nothing changes: a grid is exact."""
    certified = cut = 0
    for seed in range(13):
        steps, eps = 1 + seed % 4, (0.02, 0.1, 0.3)[seed % 3]
        net = network(MLP((4,) if seed % 2 else (4, 3)), neuron, Direct(), steps, seed, size=1)
        pixels = torch.rand((10, 1, 1, 1), generator=generator(seed, "pixel"))
        with torch.no_grad():
            ends = nn.Sequential(*[*net.layers][:3])(torch.tensor([[0.0], [1.0]])).double()
        labels = net(pixels).argmax(1)
        bounds = certified_margins(net, region(pixels.double(), Linf(eps), JUDGED), labels)
        for pixel, y, lower in zip(pixels.flatten().tolist(), labels, bounds, strict=True):
            span = (max(0.0, pixel - eps), min(1.0, pixel + eps))
            points = set()
            for shift, end in ends.T.tolist():
                how = (span, steps, neuron.theta, neuron.tau)
                points |= breakpoints(end - shift, shift, *how, hard=neuron.reset == "hard")
            inputs = torch.tensor(grid(points, span)).reshape(-1, 1, 1, 1)
            truth = found(net, inputs, int(y)).amin(0)
            assert bool((lower <= truth).all())
            cut += bool(points)
            certified += bool((lower > 0).sum() == 2)
    assert certified > 10
    assert cut > 10, "otherwise there was nothing to bound"


@pytest.mark.parametrize("threat", [Linf(0.1), L1(0.4), L0(1.0)], ids=lambda t: t.kind)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_nothing_that_is_drawn_or_climbed_to_leaves_the_bounds_of_images(threat, reset):
    net = network(CNN((3, 4), 5), LIF(reset=reset), Direct(), 3, 5, size=4)
    x = torch.rand((4, 1, 4, 4), generator=generator(0, "images"))
    y = net(x).argmax(1)
    lower = certified_margins(net, region(x.double(), threat, JUDGED), y)
    draw = generator(1, "attack")
    for _ in range(60):
        for made in (threat.random, threat.corner):
            other = made(x, lambda shape: torch.rand((4, *shape), generator=draw))
            with torch.no_grad():
                logits = net(other).double()
            assert bool((logits.gather(1, y[:, None]) - logits >= lower).all())


def test_counts_of_events_and_residual_blocks_are_bounded():
    net = network(SEWResNet(18, width=0.05), LIF(), Frames(), 2, 1, size=32)
    x = torch.randint(0, 3, (1, 2, 1, 32, 32), generator=generator(0, "events")).float()
    y = net(x).argmax(1)
    threat = Flips(2, binary=False)
    lower = certified_margins(net, region(x.double(), threat, JUDGED), y)
    none = certified_margins(net, region(x.double(), Flips(0, binary=False), JUDGED), y)
    assert bool((lower <= none).all())
    draw = generator(2, "events")
    for _ in range(5):
        other = threat.random(x, lambda shape: torch.rand((1, *shape), generator=draw))
        logits = net(other).double()
        assert bool((logits[0, y] - logits[0] >= lower[0]).all())


@pytest.mark.parametrize("neuron", NEURONS, ids=NAMES)
def test_without_a_budget_the_bounds_are_the_answer(neuron):
    for encoder, shape in ((Direct(), (3, 1, 4, 4)), (Frames(), (3, 3, 1, 4, 4))):
        net = network(CNN((3,), 5, pool="max"), neuron, encoder, 3, 2, size=4)
        x = torch.rand(shape, generator=generator(0, "still"))
        with torch.no_grad():
            logits = net(x)
            y = logits.argmax(1)
            lower, clean = margins(net, Interval(x, x, x), y)
        torch.testing.assert_close(clean, logits)
        torch.testing.assert_close(lower, logits.gather(1, y[:, None]) - logits)


def one(neuron, steps):
    return Spiking(neuron, steps, opens_time=True)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_the_first_spike_of_a_neuron_is_bounded_exactly(reset):
    """Until the first spike all is monotone in the current, and so is a single step."""
    layer = one(LIF(tau=0.5, reset=reset), 1)
    ends = torch.tensor([[-1.0, 0.5, 0.9, 1.2]]), torch.tensor([[-0.5, 0.9, 1.1, 1.4]])
    out = Bounds()(layer, Interval(*ends))
    assert out.lower.tolist() == [[0, 0, 0, 1]]
    assert out.upper.tolist() == [[0, 0, 1, 1]]


def test_both_branches_of_a_reset_stay_within_the_bounds():
    """Two steps of one neuron: 0.6 or 1.2, then whatever either leaves plus 0.5."""
    current = Interval(torch.tensor([[0.6], [0.5]]), torch.tensor([[1.2], [0.5]]))
    for reset, second in (("hard", (0, 1)), ("soft", (0, 1))):
        out = Bounds()(Spiking(IF(reset=reset), 2), current)
        assert (out.lower[1].item(), out.upper[1].item()) == second
        assert (out.lower[0].item(), out.upper[0].item()) == (0, 1)


@pytest.mark.parametrize("neuron", NEURONS, ids=NAMES)
def test_every_train_between_two_currents_lies_within_the_bounds(neuron):
    draw = generator(0, "currents")
    for _ in range(40):
        low = torch.randn((4, 6), generator=draw)
        high = low + torch.rand((4, 6), generator=draw)
        layer = Spiking(neuron, 4)
        out = Bounds()(layer, Interval(low, high))
        for _ in range(10):
            s = layer(low + (high - low) * torch.rand((4, 6), generator=draw))
            assert bool(((s >= out.lower) & (s <= out.upper)).all())
        soft = smoothed(nn.Sequential(layer))
        wide = Bounds()(soft, Interval(low, high))
        s = soft(low + (high - low) * torch.rand((4, 6), generator=draw))
        assert bool(((s >= wide.lower - 1e-6) & (s <= wide.upper + 1e-6)).all())


def test_a_budget_in_l1_is_one_of_the_sensor():
    """Behind a deviation of a quarter it buys four times as much."""
    encode = Encode(Direct(), 1, (0.5,), (0.25,)).double()
    x = torch.full((1, 1, 1, 2), 0.5).double()
    with isolated(0):
        layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).double().requires_grad_(False)
    out = Bounds()(layers, entered(encode, region(x, L1(0.1)), 0.0))
    gain = 0.4 * layers[1].weight.abs().max()
    torch.testing.assert_close(out.upper, layers[1].bias[None] + gain)
    torch.testing.assert_close(out.lower, layers[1].bias[None] - gain)


def test_a_larger_budget_has_wider_bounds():
    net = network(CNN((3,), 5), LIF(), Direct(), 3, 7, size=4)
    x = torch.rand((5, 1, 4, 4), generator=generator(0, "wider")).double()
    y = net(x.float()).argmax(1)
    rows = [certified_margins(net, region(x, Linf(eps)), y) for eps in (0, 0.01, 0.05, 0.2, 1)]
    for narrow, wide in itertools.pairwise(rows):
        assert bool((wide <= narrow).all())


def test_the_allowance_covers_float32_in_every_order_of_summation():
    """Exact sums give 1 - 2^-25; float32 gives 1 or 1 - 2^-24, as it adds."""
    with isolated(0):
        layer = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0**-25, -(2.0**-24)]]))
    x = torch.ones(1, 3).double()
    exact, allowed = (Bounds(unit)(layer, Interval(x, x)) for unit in (0.0, 2.0**-24))
    assert exact.upper.item() < 1
    orders = {
        float(np.float32(np.float32(w[0] + w[1]) + w[2]))
        for w in itertools.permutations(np.float32(layer.weight[0].tolist()))
    }
    assert 1.0 - 2.0**-24 in orders
    assert len(orders) > 1
    assert all(allowed.lower.item() <= order <= allowed.upper.item() for order in orders)


class Halved(nn.Module):
    def forward(self, x):
        return x / 2


class Said(Halved):
    def bounded(self, x, bounds):
        return x.map(self)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Halved(), "Halved"),
        (nn.Dropout(0.5), "Dropout"),
        (nn.Conv2d(1, 1, 3, padding="same", device="meta"), "same"),
        (nn.BatchNorm1d(2, track_running_stats=False), "BatchNorm1d"),
    ],
    ids=["own", "dropout", "padding", "norm"],
)
def test_what_is_not_known_is_refused_by_its_name(layer, name):
    x = Interval(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    with pytest.raises(Refusal, match=name):
        Bounds(2.0**-24)(layer, x)


def test_a_layer_may_say_its_bounds_and_another_encoder_is_refused():
    x = Interval(torch.zeros(1, 2), torch.ones(1, 2))
    assert Bounds()(nn.Sequential(Said(), Said()), x).upper.tolist() == [[0.25, 0.25]]
    coded = SpikingNetwork(Encode(Poisson(), 2), nn.Sequential(nn.Flatten(), Spiking(LIF(), 2)))
    image = torch.zeros(1, 1, 1, 2)
    with pytest.raises(Refusal, match="Poisson"):
        margins(coded, Interval(image, image), torch.tensor([0]))
    with pytest.raises(Refusal, match="Halved is no SpikingNetwork"):
        certified_margins(Halved(), x, torch.tensor([0]))
    hooked = nn.Identity()
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(Refusal, match="hook"):
        Bounds(1e-7)(hooked, x)
