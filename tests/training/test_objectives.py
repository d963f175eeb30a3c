from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.training import TET, CrossEntropy


class OverTime(nn.Module):
    """Linear logits for each step of time."""

    def __init__(self, steps: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        draw = generator(3, "weights")
        self.weight = nn.Parameter(torch.randn(steps, 5, 4, generator=draw, dtype=dtype))

    def steps(self, x: Tensor) -> Tensor:
        return torch.einsum("bf,tfk->tbk", x, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x).mean(0)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = generator(4, "batch")
    return torch.randn(6, 5, generator=draw, dtype=dtype), torch.tensor([0, 1, 2, 3, 0, 1])


def test_cross_entropy_by_hand():
    x, y = torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([1, 1])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2
    assert CrossEntropy()(nn.Identity(), x, y).item() == pytest.approx(by_hand)


def test_label_smoothing_mixes_with_the_mean_over_classes():
    x, y = batch()
    model, s = OverTime(1), 0.3
    logs = functional.log_softmax(model(x), 1)
    by_hand = -((1 - s) * logs[torch.arange(6), y] + s * logs.mean(1)).mean()
    torch.testing.assert_close(CrossEntropy(label_smoothing=s)(model, x, y), by_hand)
    torch.testing.assert_close(TET(label_smoothing=s)(model, x, y), by_hand)


def test_tet_is_cross_entropy_for_one_step_of_time():
    x, y = batch()
    torch.testing.assert_close(TET()(OverTime(1), x, y), CrossEntropy()(OverTime(1), x, y))


def test_tet_is_the_mean_of_the_losses_of_all_steps():
    x, y = batch()
    model = OverTime(3)
    logits = model.steps(x)
    each = sum(functional.cross_entropy(logits[t], y) for t in range(3)) / 3
    held = ((logits - 0.7) ** 2).sum() / logits.numel()
    torch.testing.assert_close(TET(lamb=0.2, phi=0.7)(model, x, y), 0.8 * each + 0.2 * held)
    assert not torch.isclose(each, CrossEntropy()(model, x, y))


@pytest.mark.parametrize("objective", [CrossEntropy(0.1), TET(0.3, 0.5, 0.1)])
def test_gradients_equal_finite_differences(objective: CrossEntropy | TET):
    x, y = batch(torch.float64)
    free = OverTime(2, dtype=torch.float64).weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: objective(_with(w), x, y), (free,), atol=1e-7)


def _with(weight: Tensor) -> nn.Module:
    view = OverTime(1, dtype=weight.dtype)
    del view.weight
    view.weight = weight
    return view


def test_tet_refuses_a_network_without_steps():
    x, y = batch()
    with pytest.raises(Refusal, match=r"Identity has no method steps\(x\).*cross_entropy"):
        TET()(nn.Identity(), x, y)


def test_shares_are_from_0_to_1():
    for build in (lambda: CrossEntropy(1.5), lambda: TET(lamb=-0.1), lambda: TET(0, 1, -1)):
        with pytest.raises(Refusal, match="is a share from 0 to 1"):
            build()


def test_kinds():
    assert (CrossEntropy().kind, TET().kind) == ("cross_entropy", "tet")


@pytest.mark.parametrize("phi", [1e300, -1e300, float("nan")])
def test_a_target_of_logits_is_one_that_float32_can_square(phi):
    with pytest.raises(Refusal, match=r"^phi is"):
        TET(phi=phi)
