from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import CE, PGD, Attack, Linf, Victim, ascend, stochastic
from spikeproof.errors import Refusal
from spikeproof.models import CNN, MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import CBA, IF, Gate, Gates, drawing_from, over_time, seen_through, stream
from spikeproof.training import SR, CrossEntropy, load_weights, penalised, save_model


def network(rate: float = 0.5, architecture=None):
    setting = Setting(
        channels=1, size=8, classes=3, T=4, neuron=IF(theta=0.2), gates=Gates(rate=rate)
    )
    return build(architecture or CNN((4,), 8), setting)


def images(count: int = 6):
    return torch.rand((count, 1, 8, 8), generator=generator(1, "images"))


def test_spikes_pass_at_their_rate_and_independently():
    gate = Gate(Gates(), 50, 1)
    gate.open((40,))
    with torch.no_grad():
        gate.rates.copy_(torch.linspace(0, 1, 40))
    gate.generator = generator(0, "gate")
    with torch.no_grad():
        passed = gate(torch.ones(50 * 400, 40)).unflatten(0, (50, 400))
    assert set(passed.unique().tolist()) == {0.0, 1.0}
    wanted = torch.linspace(0, 1, 40).clamp(0.1, 1)
    torch.testing.assert_close(passed.mean((0, 1)), wanted, atol=0.015, rtol=0)
    pairs = (passed[1:] * passed[:-1]).mean((0, 1))
    torch.testing.assert_close(pairs, wanted.square(), atol=0.02, rtol=0)
    pairs = (passed[:, 1:] * passed[:, :-1]).mean((0, 1))
    torch.testing.assert_close(pairs, wanted.square(), atol=0.02, rtol=0)


def test_the_gradient_of_a_rate_is_that_of_the_concrete_relaxation():
    gate = Gate(Gates(), 1, 1)
    gate.open((5,))
    rates = torch.tensor([0.2, 0.4, 0.5, 0.7, 0.9], dtype=torch.float64)
    gate.rates = torch.nn.Parameter(rates.clone())
    gate(torch.ones(1, 5).double()).sum().backward()
    noise = gate._noise(torch.ones(1, 1, 5))[0, 0].double()
    for i in range(5):  # by hand, with central differences
        values = []
        for change in (1e-6, -1e-6):
            r, u = rates[i] + change, noise[i]
            alpha = r / (1 - r) * (1 - u) / u
            values.append(1 / (1 + (1 / alpha) ** (1 / 0.5)))
        slope = (values[0] - values[1]) / 2e-6
        assert gate.rates.grad[i].item() == pytest.approx(slope.item(), rel=1e-4)
    closed = Gate(Gates(), 1, 1)
    closed.open((3,))
    closed(torch.ones(1, 3)).sum().backward()
    assert closed.rates.grad.isfinite().all(), "the logit of a rate of 1 is infinite"


def test_without_a_generator_a_network_is_a_function_and_with_one_it_is_not():
    model, x = network().eval(), images()
    logits = model(x)
    assert torch.equal(model(x), logits)
    torch.testing.assert_close(model(x[2:3])[0], logits[2])
    assert not stochastic(model)
    noisy = drawing_from(model, generator(0, "draws"))
    assert stochastic(noisy)
    assert not torch.equal(noisy(x), noisy(x))
    assert torch.equal(model(x), logits), "a view keeps its noise to itself"
    again = drawing_from(model, generator(0, "draws"))
    other = drawing_from(model, generator(0, "draws"))
    assert torch.equal(again(x), other(x))


def test_an_attacker_gives_the_noise():
    noisy, x = drawing_from(network().eval(), generator(0, "draws")), images()
    victim = Victim(noisy)
    answers = []
    for seed in (1, 2, 1):
        victim.redraw(seed)
        answers.append(victim.logits(x))
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], answers[1])
    gates = [module for module in victim.model.modules() if isinstance(module, Gate)]
    fields = [gate._noise(torch.ones(4, 1, *gate.rates.shape)).flatten()[:32] for gate in gates]
    assert not torch.equal(fields[0], fields[1]), "every layer has noise of its own"
    assert stochastic(noisy), "the network itself still draws"


def test_gradients_of_an_attack_are_means_over_draws():
    noisy, x = drawing_from(network().eval(), generator(0, "draws")), images()
    y = torch.arange(6) % 3
    ends = [
        ascend(Attack(PGD(2), CE(), draws=draws), noisy, x, y, Linf(0.1), seed=0)
        for draws in (1, 1, 8)
    ]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_stream_and_other_times_and_the_twin_keep_their_gates():
    model, x = network().eval(), images()
    whole, state = stream(model, x, 4)
    first, state = stream(model, x, 1)
    rest, _ = stream(model, x, 3, state)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    torch.testing.assert_close(whole.mean(0), model(x))
    assert over_time(model, 7).steps(x).shape == (7, 6, 3)
    assert seen_through(model, CBA()).steps(x).shape == (1, 6, 3)


def test_rates_of_one_change_nothing_and_survive_the_disk(tmp_path):
    model, x = network(1.0).eval(), images()
    plain = build(CNN((4,), 8), Setting(1, 8, 3, 4, IF(theta=0.2))).eval()
    torch.testing.assert_close(model(x), plain(x))
    with torch.no_grad():
        for gate in (m for m in model.modules() if isinstance(m, Gate)):
            gate.rates.uniform_(0.2, 1.0, generator=generator(0, "rates"))
    save_model(tmp_path, model, {})
    other = network(0.3).eval()
    load_weights(tmp_path, other)
    assert torch.equal(other(x), model(x))
    assert not torch.allclose(model(x), plain(x))


def test_sr_compares_two_passes_of_the_same_draw():
    noisy = drawing_from(network(0.5, MLP((16,))).eval(), generator(0, "draws"))
    passes = []
    noisy.register_forward_hook(lambda _, given, logits: passes.append(logits))
    penalised(CrossEntropy(), [SR(1.0, 1e-6)])(noisy, images(), torch.arange(6) % 3)
    assert torch.equal(passes[0], passes[1])


@pytest.mark.parametrize("knobs", [{"rate": 0.05}, {"low": 0}, {"temperature": 0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refusal, match="of stog"):
        Gates(**knobs)
