"""What every search on event frames owes."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.attacks import (
    CE,
    Attack,
    Flips,
    Outcome,
    Retiming,
    Search,
    Threat,
    correct,
    fingerprint,
    run,
    under_attack,
)
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import ASSG, LIF, Encode, Frames, Rule, Spiking, SpikingNetwork
from tests.contracts.attack import Counted, Exact
from tests.oracles import event_feasibility as oracle

T, SIDE, CLASSES, COUNT = 4, 4, 4, 20


class Plane(nn.Module):
    """Two classes parted by a plane of multiples of 1/128, so that every sum is exact."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        margin = (x.flatten(1) * self.weight).sum(1) + self.bias
        return torch.stack([torch.zeros_like(margin), margin], 1)


class Dead(nn.Module):
    """Logits that depend on nothing, with a gradient that is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1).sum(1, keepdim=True) + torch.tensor([1.0, 0.0])


def plane(seed: int, x: Tensor, distance: int) -> Plane:
    """Returns a victim that errs once a recording (1, T, C, H, W) has risen by ``distance``/128."""
    order = torch.randperm(x.numel(), generator=generator(seed, "plane"))
    weight = (order - len(order) // 2) / 128
    return Plane(weight, -(weight * x.flatten()).sum() - (distance - 0.5) / 128)


def fewest(victim: Plane, x: Tensor, *, binary: bool) -> int:
    """The least number of events that fools a plane: those of the largest weights, by hand."""
    row, weights = x.flatten().tolist(), victim.weight.tolist()
    margin = sum(w * v for w, v in zip(weights, row, strict=True)) + victim.bias.item()
    gains = []
    for w, v in zip(weights, row, strict=True):
        if binary:
            gains.append(-w if v else w)
        else:
            gains += [w] * 50 if w > 0 else [-w] * int(v)
    count = 0
    for gain in sorted(gains, reverse=True):
        if margin >= 0:
            return count
        margin, count = margin + gain, count + 1
    raise AssertionError("the plane is out of reach")


def recordings(count: int, *, binary: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns recordings of four classes: the upper or lower half fires, at once or scattered."""
    source = generator(seed, "recordings")
    y = torch.arange(count) % CLASSES
    shape, half = (count, T, 2, SIDE, SIDE), SIDE // 2
    at_once = torch.randint(T, (count, 1, 1, 1, 1), generator=source)
    scattered = torch.randint(T, (count, 1, *shape[2:]), generator=source)
    when = torch.where((y % 2 == 0).reshape(-1, 1, 1, 1, 1), at_once, scattered)
    fires = when == torch.arange(T).reshape(1, -1, 1, 1, 1)
    rows = torch.arange(SIDE).reshape(-1, 1) // half
    fires &= rows == (y // 2).reshape(-1, 1, 1, 1, 1)
    x = fires * (torch.rand(shape, generator=source) < 0.9).float()
    x += (torch.rand(shape, generator=source) < 0.03).float()
    more = 1 + torch.poisson(torch.full(shape, 0.3), generator=source)
    return (x.clamp_max(1) if binary else x * more), y


@functools.cache
def small_network() -> SpikingNetwork:
    """Returns a spiking network that tells the corners apart, in eval mode."""
    with isolated(0):
        first, last = nn.Linear(2 * SIDE**2, 32), nn.Linear(32, CLASSES)
    neurons = Spiking(LIF(tau=0.5), T)
    model = SpikingNetwork(Encode(Frames(), T), nn.Sequential(nn.Flatten(), first, neurons, last))
    x, y = recordings(400, binary=False, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(model(x) * 4, y).backward()
        optimizer.step()
    exact = nn.Sequential(nn.Flatten(), Exact(first), neurons, Exact(last))
    return SpikingNetwork(Encode(Frames(), T), exact).eval()


def attacked(
    search: Search,
    threat: Threat,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    rule: Rule | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
) -> Outcome:
    """Runs the attack and verifies every adversarial from scratch, and that it fools."""
    ids = torch.arange(len(y)) if ids is None else ids
    with under_attack(model):
        found = run(Attack(search, CE(), rule), model, x, y, threat, ids=ids, seed=seed)
        with torch.no_grad():
            assert torch.equal(~correct(model(found.x_adv), y) & found.fallen, found.fallen)
    for new, old in zip(found.x_adv.numpy(), x.numpy(), strict=True):
        if isinstance(threat, Flips):
            size = oracle.changes(new, old, threat.binary)
            assert size is not None
            assert size <= threat.k
        elif isinstance(threat, Retiming):
            sizes = oracle.retimed(new, old)
            assert sizes is not None
            assert sizes[threat.limits] <= threat.budget
    return found


def assert_event_search(search: Search, threats: tuple[Threat, ...]) -> None:
    """Feasible, repeatable, one sample at a time, paid for, and safe where nothing is to find."""
    model = small_network()
    seal = fingerprint(model)
    for threat in threats:
        binary = isinstance(threat, Flips) and threat.binary
        x, y = recordings(COUNT, binary=binary)
        kept = x.clone()
        for rule in (None, ASSG()):
            whole = attacked(search, threat, model, x, y, rule=rule)
            stood = correct(model(x), y)
            assert (whole.fallen & stood).any(), "nothing falls: the contract proves nothing"
            _assert_one_by_one(search, threat, x, y, rule, whole)
        _assert_harmless(search, threat, x)
        _assert_counted(search, threat, x, y)
        assert torch.equal(x, kept), "the input was changed"
    assert fingerprint(model) == seal


def _assert_one_by_one(
    search: Search, threat: Threat, x: Tensor, y: Tensor, rule: Rule | None, whole: Outcome
) -> None:
    parts = [torch.arange(i, min(i + 7, COUNT)) for i in range(0, COUNT, 7)]
    parts += [torch.randperm(COUNT, generator=generator(0, "order"))]
    for rows in parts:
        part = attacked(search, threat, small_network(), x[rows], y[rows], rule=rule, ids=rows)
        for name in ("x_adv", "fallen", "at", "forwards", "backwards"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name


def _assert_harmless(search: Search, threat: Threat, x: Tensor) -> None:
    y = torch.zeros(len(x), dtype=torch.int64)
    found = attacked(search, threat, Dead(), x, y)
    assert not found.fallen.any()
    assert torch.equal(found.x_adv, x)
    empty = attacked(search, threat, small_network(), torch.zeros_like(x), y)
    assert empty.x_adv.isfinite().all()
    assert len(attacked(search, threat, Dead(), x[:0], y[:0]).fallen) == 0
    budget = {"k": 0} if isinstance(threat, Flips) else {"budget": 0}
    model = small_network()
    nothing = attacked(search, replace(threat, **budget), model, x, model(x).argmax(1))
    assert not nothing.fallen.any()
    if isinstance(threat, Flips):
        attacked(search, replace(threat, k=10 * x[0].numel()), model, x, y)


def _assert_counted(search: Search, threat: Threat, x: Tensor, y: Tensor) -> None:
    model = Counted(small_network())
    with under_attack(model):
        found = run(Attack(search), model, x, y, threat, ids=torch.arange(COUNT))
    assert model.finite, f"{search} asked about NaN"
    assert found.forwards.sum() == model.forwards
    assert found.backwards.sum() == model.backwards
    assert not (search.blind and model.backwards)
    assert (found.forwards[found.fallen] == found.at[found.fallen]).all()


def assert_fewest(search: Search, *, binary: bool, owed: float, distance: int = 400) -> None:
    """A plane falls at ``owed`` times the fewest events, and never at one less than the fewest."""
    source = generator(0, "fewest")
    x = torch.poisson(torch.full((4, T, 2, SIDE, SIDE), 0.3), generator=source)
    x = x.clamp_max(1) if binary else x
    y = torch.zeros(1, dtype=torch.int64)
    for seed, row in enumerate(x.split(1)):
        victim = plane(seed, row, distance)
        count = fewest(victim, row, binary=binary)
        assert count > 3
        below = attacked(search, Flips(count - 1, binary), victim, row, y)
        assert not below.fallen.any(), "feasible by the oracle, and yet less than the fewest"
        if math.isfinite(owed):
            enough = Flips(math.ceil(owed * count), binary)
            assert attacked(search, enough, victim, row, y).fallen.all()


def assert_beats_noise(search: Search, noise: Search, threat: Threat) -> None:
    """More recordings fall than to noise under the same budget."""
    binary = isinstance(threat, Flips) and threat.binary
    x, y = recordings(60, binary=binary, seed=2)
    model = small_network()
    falls = [int(attacked(s, threat, model, x, y).fallen.sum()) for s in (search, noise)]
    assert falls[0] > falls[1], falls
