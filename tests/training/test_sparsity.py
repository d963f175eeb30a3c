from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import PGD, Linf
from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import IF, Poisson, drawing_from, smoothed
from spikeproof.training import SR, TRADES, Adversarial, CrossEntropy, penalised
from tests.training.robust import images, network


def smooth():
    """Smooth neurons: the gradient is the derivative of what is computed."""
    model = build(
        CNN((4,), 8), Setting(channels=1, size=8, classes=3, T=3, neuron=IF(theta=0.2))
    ).double()
    return smoothed(model).train()


def gradients_of_sureness(model, x, y):
    x = x.clone().requires_grad_()
    z = model(x)
    rivals = [
        max((k for k in range(3) if k != c), key=lambda k: row[k])
        for row, c in zip(z.detach().tolist(), y.tolist(), strict=True)
    ]
    own, other = z[torch.arange(len(y)), y], z[torch.arange(len(y)), torch.tensor(rivals)]
    f = own.exp() / (own.exp() + other.exp())
    (slope,) = torch.autograd.grad(f.sum(), x)
    return slope.flatten(1)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_as_h_goes_to_0_it_is_the_squared_norm_of_the_gradient(norm):
    model, (x, y) = smooth().eval(), images()
    wanted = gradients_of_sureness(model, x, y).norm(p=int(norm[1]), dim=1).square().mean()
    clean = CrossEntropy()(model, x, y)
    errors = []
    for h in (1e-2, 1e-4, 1e-6):
        found = (penalised(CrossEntropy(), [SR(2.0, h, norm)])(model, x, y) - clean) / 2
        errors.append(abs(found.item() / wanted.item() - 1))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


def test_in_train_mode_norms_add_nothing_to_it():
    """Both passes take the batch statistics of the first, as constants."""
    model, (x, y) = smooth(), images()
    there = penalised(CrossEntropy(), [SR(1.0, 1e-6)])(model, x, y) - CrossEntropy()(model, x, y)
    larger = penalised(CrossEntropy(), [SR(1.0, 1e-5)])(model, x, y) - CrossEntropy()(model, x, y)
    assert there.item() == pytest.approx(larger.item(), rel=1e-3)


def test_its_gradient_is_that_of_finite_differences():
    model, (x, y) = smooth().eval(), images()
    objective = penalised(CrossEntropy(), [SR(0.5, 0.01)])
    weight = next(p for p in model.parameters() if p.dim() == 2)
    objective(model, x, y).backward()
    for place in ((0, 0), (3, 5)):
        values = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += change
            values.append(objective(model, x, y).item())
            with torch.no_grad():
                weight[place] -= change
        slope = (values[0] - values[1]) / 2e-6
        assert weight.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_lambda_0_makes_no_pass_of_its_own():
    model, (x, y) = network(), images()
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    loss = penalised(CrossEntropy(), [SR(0.0)])(model, x, y)
    assert passes == [1]
    assert torch.equal(loss, CrossEntropy()(model, x, y))


@pytest.mark.parametrize("objective", [Adversarial, TRADES])
def test_on_top_of_another_objective_it_looks_where_that_one_looks(objective):
    model, (x, y) = network(analog=True), images()
    base = objective(Linf(0.1), PGD(2))
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    penalised(base, [SR(1.0)])(model, x, y, 3).backward()
    before, moved = seen[-2:]
    assert before.shape == moved.shape
    change = moved - before
    assert set((change / 0.01).round().unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert Linf(0.1).admits(before[-len(x) :], x).all()


def test_no_gradient_no_direction():
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for norm in ("l1", "l2"):
        loss = penalised(CrossEntropy(), [SR(1.0, norm=norm)])(model, *images())
        assert loss.item() == pytest.approx(torch.tensor(3.0).log().item())


@pytest.mark.parametrize("knobs", [{"lamb": -1}, {"h": 0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refusal):
        SR(**knobs)


def test_half_digits_are_refused():
    model, (x, y) = network().float(), images()
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(Refusal, match=r"bfloat16.*all digits"),
    ):
        penalised(CrossEntropy(), [SR(1.0)])(model, x.float(), y)


def test_both_passes_draw_the_same_noise():
    """Without that, h**-2 times the encoder's noise would be the penalty."""
    setting = Setting(channels=1, size=8, classes=3, T=4, encoder=Poisson(), neuron=IF(theta=0.2))
    model = drawing_from(build(CNN((4,), 8), setting).eval(), generator(0, "draws"))
    x, y = images()
    passes = []
    model.register_forward_hook(lambda _, given, logits: passes.append((given[0], logits)))
    penalised(CrossEntropy(), [SR(1.0, 1e-6)])(model, x.float(), y)
    first, second = passes
    assert torch.equal(first[1], second[1]), "a millionth moves no pixel over its threshold here"
    assert not torch.equal(model(x.float()), first[1]), "another draw is another answer"
