from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import JUDGED, L0, L1, Flips, Linf, region
from spikeproof.errors import Refusal
from spikeproof.models import CNN, MLP, SEWResNet
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    IF,
    LIF,
    Direct,
    Encode,
    Frames,
    Interval,
    Spiking,
    SpikingNetwork,
    certified_margins,
    crown_margins,
)
from spikeproof.spiking._crown import Crown, Traced, line_below
from tests.oracles.certificates import breakpoints, flipped, grid
from tests.spiking.test_bounds import NAMES, NEURONS, found, network


@pytest.mark.slow  # with the next test a thousand cases, each asked all that an attacker may
@pytest.mark.parametrize("neuron", NEURONS, ids=NAMES)
def test_bounds_contain_the_exact_answer_of_flipped_events(neuron):
    tighter = cases = 0
    for seed in range(13):
        steps, k = 1 + seed % 4, 1 + seed % 2
        net = network(MLP((4,) if seed % 4 else (5, 3)), neuron, Frames(), steps, seed)
        clean = (torch.rand((10, steps, 1, 2, 2), generator=generator(seed, "x")) < 0.4).float()
        labels = net(clean).argmax(1)
        held = region(clean.double(), Flips(k), JUDGED)
        bounds, wide = crown_margins(net, held, labels), certified_margins(net, held, labels)
        assert bool((bounds >= wide).all())
        tighter += bool((bounds > wide + 0.01).any())
        for x, y, lower in zip(clean, labels.tolist(), bounds, strict=True):
            truth = found(net, torch.from_numpy(flipped(x.numpy(), k)), y).amin(0)
            assert bool((lower <= truth).all())
            cases += 1
    assert cases == 130
    assert tighter > 6


@pytest.mark.slow
@pytest.mark.parametrize("neuron", NEURONS, ids=NAMES)
def test_bounds_contain_the_exact_answer_of_one_pixel(neuron):
    """Between breakpoints of the first layer's trains nothing changes: a grid is exact."""
    tighter = cut = 0
    for seed in range(13):
        steps, eps = 1 + seed % 4, (0.02, 0.1, 0.3)[seed % 3]
        net = network(MLP((4,) if seed % 2 else (4, 3)), neuron, Direct(), steps, seed, size=1)
        pixels = torch.rand((10, 1, 1, 1), generator=generator(seed, "pixel"))
        with torch.no_grad():
            ends = nn.Sequential(*[*net.layers][:3])(torch.tensor([[0.0], [1.0]])).double()
        labels = net(pixels).argmax(1)
        held = region(pixels.double(), Linf(eps), JUDGED)
        bounds, wide = crown_margins(net, held, labels), certified_margins(net, held, labels)
        assert bool((bounds >= wide).all())
        tighter += bool((bounds > wide + 0.01).any())
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
    assert cut > 10, "otherwise there was nothing to bound"
    assert tighter > 1


@pytest.mark.parametrize("threat", [Linf(0.1), L1(0.4), L0(1.0)], ids=lambda t: t.kind)
@pytest.mark.parametrize(("reset", "pool"), [("hard", "avg"), ("soft", "max")])
def test_nothing_that_is_drawn_or_climbed_to_leaves_the_bounds_of_images(threat, reset, pool):
    net = network(CNN((3, 4), 5, pool=pool), LIF(reset=reset), Direct(), 3, 5, size=4)
    x = torch.rand((4, 1, 4, 4), generator=generator(0, "images"))
    net.encode.std.fill_(0.4)
    y = net(x).argmax(1)
    lower = crown_margins(net, region(x.double(), threat, JUDGED), y)
    draw = generator(1, "attack")
    for _ in range(60):
        for made in (threat.random, threat.corner):
            other = made(x, lambda shape: torch.rand((4, *shape), generator=draw))
            with torch.no_grad():
                logits = net(other).double()
            assert bool((logits.gather(1, y[:, None]) - logits >= lower).all())


@pytest.mark.slow
def test_counts_of_events_and_residual_blocks_are_bounded():
    net = network(SEWResNet(18, width=0.02), LIF(), Frames(), 2, 1, size=32)
    x = torch.randint(0, 3, (1, 2, 1, 32, 32), generator=generator(0, "events")).float()
    y, threat = net(x).argmax(1), Flips(2, binary=False)
    held = region(x.double(), threat, JUDGED)
    lower = crown_margins(net, held, y, steps=2)
    assert bool((lower >= certified_margins(net, held, y)).all())
    draw = generator(2, "events")
    for _ in range(5):
        other = threat.random(x, lambda shape: torch.rand((1, *shape), generator=draw))
        logits = net(other).double()
        assert bool((logits[0, y] - logits[0] >= lower[0]).all())


@pytest.mark.parametrize("hard", [True, False])
def test_a_line_touches_the_function_that_it_is_below(hard):
    draw, shape = generator(0, "lines"), (2000,)
    spike, rest = torch.randn((2, *shape), generator=draw, dtype=torch.float64)
    low = 1 + torch.randn(shape, generator=draw, dtype=torch.float64)
    u = Interval(low, low + torch.rand(shape, generator=draw, dtype=torch.float64))
    mix = torch.rand(shape, generator=draw, dtype=torch.float64)
    slope, shift = line_below(spike, rest, u, 1.0, mix, hard=hard)

    def gap(at, s):
        left = at * (1 - s) if hard else at - s
        return spike * s + rest * left - slope * at - shift

    far = torch.full(shape, torch.inf, dtype=torch.float64)
    nearest = far
    for share in torch.linspace(0, 1, 21):
        at = u.lower + share * (u.upper - u.lower)
        assert bool((gap(at, (at >= 1).double()) >= -1e-9).all())
    inside = (u.lower < 1) & (u.upper >= 1)
    for at, s in ((u.lower, 0), (u.lower, 1), (u.upper, 0), (u.upper, 1)):
        real = (at >= 1) == bool(s)
        nearest = torch.minimum(nearest, gap(at, s).where(real, far))
    for s in (0, 1):  # from below theta is come as near as one likes
        nearest = torch.minimum(nearest, gap(torch.ones_like(low), s).where(inside, far))
    assert bool((nearest >= -1e-9).all())
    assert bool((nearest <= 1e-9).all())
    assert inside.sum() > 300


def test_what_two_values_owe_to_one_input_is_kept():
    """x and 1 - x by two dense layers, then their sum: 1, of which intervals know -1 to 3."""
    with isolated(0):
        layers = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)).double().requires_grad_(False)
    layers[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    layers[0].bias.copy_(torch.tensor([0.0, 1.0]))
    layers[1].weight.fill_(1.0)
    layers[1].bias.zero_()
    x = Interval(torch.tensor([[-1.0], [0.0]]).double(), torch.tensor([[1.0], [3.0]]).double())
    bounds = Crown(2, 1)
    out = bounds(layers, x)
    assert isinstance(out, Traced)
    assert out.lower[:, 0].tolist() == pytest.approx([-1, -2], abs=1e-5)
    for sign in (1, -1):
        least = bounds.lowest(out, torch.full((1, 2, 1), sign).double())
        assert least[0].tolist() == pytest.approx([sign, sign], abs=1e-5)
        assert bool((least < sign).all()), "rounding is taken off"


def test_without_a_budget_the_bounds_are_the_answer():
    for neuron in NEURONS:
        net = network(CNN((3,), 5), neuron, Direct(), 3, 2, size=4)
        x = torch.rand((3, 1, 4, 4), generator=generator(0, "still"))
        with torch.no_grad():
            logits = net(x)
        y = logits.argmax(1)
        lower = crown_margins(net, region(x.double(), Linf(0.0)), y)
        torch.testing.assert_close(lower.float(), logits.gather(1, y[:, None]) - logits)


def test_a_sample_has_its_bounds_in_any_company():
    """Whose spike is sure keeps its interval, whether or not another sample's is open."""
    net = network(MLP((6, 5)), IF(), Direct(), 4, 0)
    x = torch.rand((8, 1, 2, 2), generator=generator(0, "company"))
    y, threat = net(x).argmax(1), Linf(0.1)

    def bounds(rows):
        return crown_margins(net, region(x[rows].double(), threat), y[rows], steps=0)

    alone = torch.cat([bounds([row]) for row in range(8)])
    torch.testing.assert_close(bounds([*range(8)]), alone, rtol=0, atol=1e-9)


def test_an_ascent_finds_no_worse():
    net = network(MLP((12,)), IF(), Direct(), 3, 4, size=4)
    x = torch.rand((8, 1, 4, 4), generator=generator(0, "ascent"))
    y, held = net(x).argmax(1), region(x.double(), Linf(0.05))
    rows = [crown_margins(net, held, y, steps=steps) for steps in (0, 5, 20)]
    assert bool((rows[0] <= rows[1]).all())
    assert bool((rows[1] <= rows[2]).all())
    assert bool((rows[0] + 0.01 < rows[2]).any())


def test_too_many_membranes_are_refused():
    net = network(MLP((6, 5)), LIF(), Direct(), 3, 3)
    x = torch.zeros(1, 1, 2, 2).double()
    with pytest.raises(Refusal, match="33 membranes in time or more"):
        crown_margins(net, region(x, Linf(0.1)), torch.tensor([0]), most=32)
    crown_margins(net, region(x, Linf(0.1)), torch.tensor([0]), most=33)


def test_a_layer_that_says_its_bounds_ends_the_way_back():
    class Halved(nn.Module):
        def forward(self, x):
            return x / 2

        def bounded(self, x, bounds):
            return x.map(self)

    neurons = Spiking(LIF(theta=0.4), 2, opens_time=True)
    layers = nn.Sequential(nn.Flatten(), Halved(), neurons)
    net = SpikingNetwork(Encode(Direct(), 2), layers)
    x, y = torch.tensor([0.7, 0.9, 1.0, 0.0]).reshape(1, 1, 2, 2), torch.tensor([2])
    lower = crown_margins(net, region(x.double(), Linf(0.0)), y)
    assert lower[0].tolist() == pytest.approx([0.5, 0.0, 0.0, 1.0], abs=1e-5)
