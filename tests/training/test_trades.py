from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from spikeproof.attacks import FGSM, MIFGSM, PGD, Linf
from spikeproof.errors import Refusal
from spikeproof.training import TRADES, CrossEntropy
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
def test_a_search_that_starts_where_there_is_no_slope_is_refused(search):
    with pytest.raises(Refusal, match="has no slope"):
        TRADES(search=search)
