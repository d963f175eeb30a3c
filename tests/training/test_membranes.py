from __future__ import annotations

import pytest
import torch

from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.spiking import LIF
from spikeproof.training import CrossEntropy, penalised
from spikeproof.training._membranes import distances
from tests.training.robust import images, network


class Kept:
    """A penalty of nothing that keeps what it could see."""

    neurons = True

    def __call__(self, seen):
        self.seen = seen
        return seen.logits.sum() * 0


def listening(model, x, y):
    kept = Kept()
    penalised(CrossEntropy(), [kept])(model, x, y)
    return kept.seen


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("learned", [False, True])
def test_membranes_are_those_that_fired(reset, learned):
    neuron = LIF(tau=0.7, theta=0.3, reset=reset, learn_theta=learned, learn_tau=learned)
    setting = Setting(channels=1, size=8, classes=3, T=4, neuron=neuron)
    model, (x, y) = build(CNN((4,), 8), setting).double(), images()
    seen = listening(model, x, y)
    found = list(distances(seen, "test"))
    assert [d.shape for d in found] == [(4, 6, 4, 8, 8), (4, 6, 8)]
    for distance, fired in zip(found, seen.fired, strict=True):
        assert torch.equal((distance >= 0).double(), fired.spikes)
        u = torch.zeros_like(fired.current[0])
        for t, current in enumerate(fired.current):  # by hand, element by element
            u = 0.7 * u + current
            torch.testing.assert_close(distance[t], u - 0.3)
            spike = (u >= 0.3).double()
            u = u * (1 - spike) if reset == "hard" else u - 0.3 * spike
    with torch.no_grad():
        alone = model(x)
    torch.testing.assert_close(seen.logits, alone)


def test_nothing_listens_after_the_pass_or_where_nobody_asks():
    model, (x, y) = build(CNN((4,), 8), Setting(channels=1, size=8, classes=3, T=2)), images()
    seen = []
    penalised(CrossEntropy(), [lambda made: seen.append(made) or made.logits.sum() * 0])(
        model, x.float(), y
    )
    assert not seen[0].fired
    listening(model, x.float(), y)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_neurons_is_refused():
    x, y = images()
    seen = listening(network(analog=True), x, y)
    with pytest.raises(Refusal, match="the penalty is tgo and SpikingNetwork has no layer"):
        next(distances(seen, "tgo"))
