"""What every network owes."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.spiking import BPTT, ATan, SpikingNetwork, State, seen_through, stream


def assert_model(model: SpikingNetwork, x: Tensor, classes: int) -> None:
    """Logits (B, K) in eval mode: the same again, alone, in parts of time, through a rule.

    ``x`` holds at least two samples; the model is cast to float64 in place.
    """
    model.double().eval()
    x = x.double()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    logits = model(x)
    assert logits.shape == (len(x), classes)
    assert torch.isfinite(logits).all()
    assert torch.equal(model(x), logits), "a second call gives something else"
    for i in range(len(x)):
        torch.testing.assert_close(model(x[i : i + 1])[0], logits[i])
    _assert_gradient(model, x)
    _assert_stream(model, x, logits)
    assert torch.equal(seen_through(model, BPTT(ATan()))(x), logits)
    after = model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(value, after[name]) for name, value in state.items())


def _assert_gradient(model: SpikingNetwork, x: Tensor) -> None:
    """An arctan is nowhere zero, so every parameter and every sample has a gradient."""
    x = x.clone().requires_grad_()
    view = seen_through(model, BPTT(ATan()))
    weights = torch.linspace(-1, 1.5, view(x).shape[1], dtype=x.dtype)
    (view(x) * weights).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert (x.grad.flatten(1) != 0).any(1).all(), "no gradient at the input"
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert torch.isfinite(parameter.grad).all(), name
        parameter.grad = None


def _assert_stream(model: SpikingNetwork, x: Tensor, logits: Tensor) -> None:
    encoder, total = model.encode.encoder, model.encode.T
    if encoder.events and encoder.static:
        return  # a mean over all frames exists only when they are all there
    state, parts = State(), []
    for steps in (1, total - 1) if total > 1 else (1,):
        begin = state.elapsed
        part = x[:, begin : begin + steps] if encoder.events else x
        out, state = stream(model, part, steps, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts).mean(0), logits)
