from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from spikeproof.attacks import (
    FGSM,
    MIFGSM,
    PGD,
    SEA,
    Flips,
    Linf,
    RandomSearch,
    Retiming,
    RetimingSearch,
    TopK,
)
from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.spiking import IF, Frames
from spikeproof.training import MART, TRADES, Adversarial, CrossEntropy
from spikeproof.training._trades import divergence
from tests.training.robust import images, network


def test_divergence_is_that_of_torch():
    x, _ = images()
    a, b = x.flatten(1)[:, :4] * 9, x.flatten(1)[:, 4:8] * 9
    theirs = functional.kl_div(
        b.log_softmax(1), a.log_softmax(1), log_target=True, reduction="none"
    ).sum(1)
    torch.testing.assert_close(divergence(a, b), theirs)


def test_with_eps_0_it_is_the_clean_loss():
    model, (x, y) = network(), images()
    clean = CrossEntropy()(model, x, y)
    torch.testing.assert_close(TRADES(Linf(0), PGD(2))(model, x, y), clean)


def test_by_hand_at_the_attacked_input_that_the_network_saw():
    model, (x, y) = network(), images()
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = TRADES(Linf(0.1), PGD(3), beta=2.0)(model, x, y, 1)
    clean, attacked = seen[-1].chunk(2)
    assert torch.equal(clean, x)
    assert Linf(0.1).admits(attacked, x).all()
    p, q = network()(seen[-1]).softmax(1).chunk(2)
    own = -p[torch.arange(len(y)), y].log().mean()
    by_hand = own + 2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(loss, by_hand)


def test_the_attack_climbs_the_divergence_not_the_loss():
    """Labels say nothing to it: other labels, the same attacked inputs."""
    model, (x, y) = network(), images()
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    TRADES(Linf(0.1), PGD(3))(model, x, y, 1)
    first = seen[-1]
    again = network()
    again.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    TRADES(Linf(0.1), PGD(3))(again, x, y.flip(0), 1)
    assert torch.equal(first, seen[-1])


@pytest.mark.parametrize("search", [FGSM(), MIFGSM(3), PGD(3, random_start=False)])
def test_a_search_that_would_start_where_there_is_no_slope_starts_elsewhere(search):
    """At the clean input the gradient is rounding, and its sign would be noise."""
    model, (x, y) = network(analog=True), images()
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    TRADES(Linf(0.1), search)(model, x, y, 1)
    start, (_, attacked) = seen[1], seen[-1].chunk(2)
    assert Linf(0.1).admits(start, x).all()
    assert (start - x).abs().mean() > 0.02
    reached = divergence(network(analog=True)(x), network(analog=True)(attacked))
    begun = divergence(network(analog=True)(x), network(analog=True)(start))
    assert (reached > begun).float().mean() > 0.8


def test_a_search_that_does_not_climb_is_refused():
    with pytest.raises(Refusal, match="climbs to no end"):
        TRADES(search=RandomSearch())(network(), *images())


@pytest.mark.parametrize(
    ("threat", "search"),
    [
        (Flips(6), TopK(4)),
        (Flips(6, binary=False), TopK(4)),
        (Flips(6), SEA()),
        (Retiming(1), RetimingSearch(3)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("objective", [Adversarial, MART, TRADES])
def test_on_events_every_objective_trains_on_frames_that_a_sensor_can_deliver(
    objective, threat, search
):
    setting = Setting(channels=2, size=8, classes=3, T=3, encoder=Frames(), neuron=IF(theta=0.2))
    model = build(CNN((4,), 8), setting)
    x = (images()[0].unsqueeze(1).repeat(1, 3, 2, 1, 1) > 0.7).float()
    x[:, 1] = x[:, 1].flip(-1)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    objective(threat, search)(model, x, images()[1], 0).backward()
    attacked = seen[-1][-len(x) :]
    assert threat.admits(attacked, x).all()
    assert not torch.equal(attacked, x)
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if objective is TRADES:
        start = seen[1]
        assert threat.admits(start, x).all()
        assert (start != x).flatten(1).any(1).all()
