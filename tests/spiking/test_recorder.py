from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    BPTT,
    IF,
    LIF,
    Direct,
    Encode,
    Spiking,
    SpikingNetwork,
    Triangle,
    recorded,
    seen_through,
)

STEPS = 5
FIRST, SECOND = "layers.1", "layers.3"


def network() -> SpikingNetwork:
    with isolated(1, "recorder"):
        conv, deep, head = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3), nn.Linear(16, 2)
    narrow = BPTT(Triangle(0.5))  # so that some gradients are exactly zero
    layers = nn.Sequential(
        conv,
        Spiking(LIF(tau=0.8, theta=0.3, rule=narrow), STEPS, opens_time=True),
        deep,
        Spiking(IF(theta=0.4, rule=narrow), STEPS),
        nn.Flatten(),
        head,
    )
    return SpikingNetwork(Encode(Direct(), STEPS), layers).double()


def images(batch: int) -> torch.Tensor:
    x = torch.rand((batch, 1, 6, 6), generator=generator(2, "recorder"), dtype=torch.float64)
    return x * torch.linspace(0.2, 2, batch).reshape(-1, 1, 1, 1)


def hooks(model: nn.Module) -> int:
    return sum(
        len(getattr(module, kind))
        for module in model.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    )


def test_spikes_and_rates_counted_by_hand():
    model, x = network(), images(4)
    current = model.layers[0](x)
    s1, _ = model.layers[1].run(current.expand(STEPS, *current.shape))
    s2, _ = model.layers[3].run(model.layers[2](s1.flatten(0, 1)).unflatten(0, (STEPS, 4)))
    plain = model(x)
    with recorded(model) as records:
        assert torch.equal(model(x), plain), "recording changed the logits"
    assert list(records) == [FIRST, SECOND]
    for name, spikes in ((FIRST, s1), (SECOND, s2)):
        counts = [spikes[:, i].sum().item() for i in range(4)]
        assert records[name].spikes.tolist() == counts
        assert sum(counts) > 0
        neurons = spikes[0, 0].numel()
        assert records[name].neurons == neurons
        assert records[name].T == STEPS
        assert records[name].rate.tolist() == pytest.approx([n / (STEPS * neurons) for n in counts])


def gradients_at_currents(model: SpikingNetwork, x: torch.Tensor) -> list[torch.Tensor]:
    """dL/dI of both layers with the sample first, by cutting the network open."""
    first = model.layers[0](x).detach().requires_grad_()
    second = model.layers[2](model.layers[1](first))
    logits = model.layers[5](model.layers[4](model.layers[3](second)))
    logits = logits.unflatten(0, (STEPS, -1)).mean(0)
    d_first, d_second = torch.autograd.grad(logits[:, 0].sum(), (first, second))
    return [d_first, d_second.unflatten(0, (STEPS, -1)).transpose(0, 1)]


def test_gradients_equal_those_of_the_network_cut_open():
    model, x = network(), images(4)
    with recorded(model, gradients=True) as records:
        model(x)[:, 0].sum().backward()
    for name, g in zip((FIRST, SECOND), gradients_at_currents(model, x), strict=True):
        ours = records[name].gradient
        for i in range(4):
            values = [abs(v) for v in g[i].flatten().tolist()]
            assert ours.zeros[i].item() == values.count(0) / len(values)
            assert ours.l1[i].item() == pytest.approx(sum(values))
            assert ours.l2[i].item() == pytest.approx(sum(v * v for v in values) ** 0.5)
            assert ours.largest[i].item() == pytest.approx(max(values))
    assert 0 < records[SECOND].gradient.zeros.mean() < 1


def test_a_sample_has_the_same_numbers_in_every_batch():
    model, x = network(), images(6)
    for sizes in ((6,), (1,) * 6, (2, 4)):
        with recorded(model, gradients=True) as records:
            for part in x.split(sizes):
                model(part)[:, 1].sum().backward()
        seen = [
            value
            for record in records.values()
            for g in [record.gradient]
            for value in (record.spikes, record.rate, g.zeros, g.l1, g.l2, g.largest)
        ]
        if sizes == (6,):
            whole = seen
        for a, b in zip(seen, whole, strict=True):
            torch.testing.assert_close(a, b)


def test_no_hook_is_left():
    model, x = network(), images(2).requires_grad_()
    with recorded(model, gradients=True) as records:
        logits = model(x)
    assert hooks(model) == 0
    before = len(records[FIRST]._gradients)
    logits.sum().backward()
    assert len(records[FIRST]._gradients) == before == 0, "a tensor kept its hook"
    model(x)
    assert len(records[FIRST].spikes) == 2, "it went on recording"
    with pytest.raises(RuntimeError), recorded(model, gradients=True):
        model(x[..., :3])
    assert hooks(model) == 0


def test_without_gradients_there_are_none():
    model, x = network(), images(2)
    with recorded(model) as records, torch.no_grad():
        model(x)
    assert records[FIRST]._gradients == []
    with recorded(model, gradients=True) as records, torch.no_grad():
        model(x)
    assert records[FIRST].spikes.shape == (2,)
    assert records[FIRST]._gradients == []


def test_a_view_is_recorded_and_its_model_is_not():
    model, x = network(), images(3)
    view = seen_through(model, BPTT())
    with recorded(view, gradients=True) as seen, recorded(model, gradients=True) as unseen:
        view(x)[:, 0].sum().backward()
    assert len(seen[FIRST].spikes) == 3
    assert not unseen[FIRST]._spikes
    assert not unseen[FIRST]._gradients


def test_a_layer_that_never_ran_has_no_numbers():
    model = nn.Sequential(Spiking(IF(), 2))
    with recorded(model, gradients=True) as layers:
        pass
    assert layers["0"].spikes.shape == layers["0"].rate.shape == (0,)
    assert layers["0"].gradient.l1.shape == (0,)


def test_a_rate_counts_the_steps_that_ran():
    model, x = network(), images(3)
    with recorded(model) as layers:
        for layer in (model.layers[1], model.layers[3]):
            layer.T = 2
        model.encode.T = 2
        model(x)
    for record in layers.values():
        assert record.T == 2
        torch.testing.assert_close(record.rate, record.spikes / (2 * record.neurons))
    with recorded(model) as short:
        model(x)
    assert torch.equal(layers[FIRST].rate, short[FIRST].rate)
