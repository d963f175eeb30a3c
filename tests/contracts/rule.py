"""What every gradient rule owes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    BPTT,
    CBA,
    IF,
    LIF,
    Direct,
    Encode,
    Rule,
    Spiking,
    SpikingNetwork,
    forget,
    keep_samples,
    seen_through,
)

STEPS, BATCH = 5, 4


def _network() -> SpikingNetwork:
    with isolated(0):
        conv, head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3 * 4 * 6, 4)
        middle = nn.Conv2d(3, 3, 3, padding=1)
    source = generator(0, "rule")
    for module in (conv, middle, head):
        scale = 3 / module.weight[0].numel() ** 0.5
        module.weight.data = torch.randn(module.weight.shape, generator=source) * scale
        module.bias.data.fill_(0.1)
    layers = nn.Sequential(
        conv,
        Spiking(LIF(tau=0.8), STEPS, opens_time=True),
        middle,
        Spiking(IF(reset="soft"), STEPS),
        nn.Flatten(),
        head,
    )
    return SpikingNetwork(Encode(Direct(), STEPS), layers).double()


def _gradient(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    weights = torch.linspace(-1, 1, 4, dtype=torch.float64)
    (slope,) = torch.autograd.grad((model(x) * weights).sum(), x)
    return slope


def assert_rule(rule: Rule | CBA) -> None:
    """Leaves every logit alone; finite, repeatable gradients per sample; no trace on the model."""
    model = _network()
    x = torch.rand((BATCH, 1, 4, 6), generator=generator(1, "rule"), dtype=torch.float64)
    logits, native = model(x), _gradient(model, x)
    view = seen_through(model, rule)
    if not isinstance(rule, CBA):
        assert torch.equal(view(x), logits), "a rule changed a logit"
        with torch.no_grad():
            assert torch.equal(view(x), logits)
    forget(view)
    slope = _gradient(view, x)
    assert torch.isfinite(slope).all()
    assert (slope.flatten(1) != 0).any(1).all(), "no gradient"
    _assert_repeatable(view, x, slope)
    _assert_per_sample(view, x, slope)
    _assert_followed(view, x)
    assert torch.equal(_gradient(model, x), native), "the model's own gradient changed"
    for layer in model.modules():
        assert not isinstance(layer, Spiking) or (layer.rule == BPTT() and layer.memory is None)


def _assert_repeatable(view: nn.Module, x: Tensor, slope: Tensor) -> None:
    forget(view)
    assert torch.equal(_gradient(view, x), slope)


def _assert_per_sample(view: nn.Module, x: Tensor, slope: Tensor) -> None:
    for i in range(BATCH):
        forget(view)
        alone = _gradient(view, x[i : i + 1])
        torch.testing.assert_close(alone[0], slope[i])


def _assert_followed(view: nn.Module, x: Tensor) -> None:
    """What a rule remembers of a sample follows it when others leave the batch."""
    index = torch.tensor([2, 0])
    forget(view)
    _gradient(view, x)
    whole = _gradient(view, x * 0.9)[index]
    forget(view)
    _gradient(view, x)
    keep_samples(view, index)
    torch.testing.assert_close(_gradient(view, x[index] * 0.9), whole)
    forget(view)
