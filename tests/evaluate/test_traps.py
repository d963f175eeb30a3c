"""Defects that evaluations of spiking networks have really had: those of the judge's side."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spikeproof.attacks import PGD, Attack, Linf, RandomSearch, under_attack
from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    Conditions,
    Step,
    Suite,
    evaluate,
    read_record,
    robust_accuracy,
    success_over_all,
    success_over_correct,
    summary,
    wilson,
)
from spikeproof.evaluate._probes import probe
from spikeproof.seeding import isolated
from spikeproof.spiking import HART, Triangle

BY_GRADIENT = Suite("s", (Step("noise", Attack(RandomSearch(2))), Step("pgd", Attack(PGD(3)))))
BY_STEPS = Suite("s", (Step("noise", Attack(RandomSearch(5))), Step("pgd", Attack(PGD(5)))))


class Fires(torch.autograd.Function):
    """A step with a triangle for its gradient."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).float()

    @staticmethod
    def backward(ctx, d_out):
        (u,) = ctx.saved_tensors
        return d_out * (1 - u.abs()).clamp_min(0)


class Peer(nn.Module):
    """Takes an image for its current, in the manner of layers with a mode and a state."""

    def __init__(self, neuron, reset=lambda _: None):
        super().__init__()
        with isolated(0):
            self.first, self.last = nn.Linear(4, 32), nn.Linear(32, 2)
        self.neuron, self.reset = neuron, reset

    def forward(self, x):
        self.reset(self.neuron)
        current = 3 * self.first(x.flatten(1)).expand(4, -1, -1)
        return 5 * self.last(self.neuron(current)).mean(0)


class Bare(nn.Module):
    """A neuron that fires with its surrogate in training, and as a bare step in eval()."""

    def forward(self, current):
        u = current - 1
        return Fires.apply(u) if self.training else (u >= 0).float()


def spikingjelly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old releases script functions at import
        peer = pytest.importorskip(
            "spikingjelly.activation_based.neuron",
            reason="spikingjelly is not installed",
            exc_type=ImportError,
        )
        return Peer(peer.IFNode(step_mode="m"), lambda neuron: neuron.reset())


@pytest.mark.doubtful
@pytest.mark.parametrize("make", [lambda: Peer(Bare()), spikingjelly], ids=["double", "original"])
def test_trap_12_an_eval_that_removes_the_gradient_is_caught_and_never_robust(make, points):
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = points.x.clone().requires_grad_()
        assert model.train()(x).requires_grad, "the gradient is there in training"
        y = model.eval()(points.x).argmax(1)
        check = {c.id: c for c in probe(model, points.x, y, Linf(0.1))}["C6"]
        record = evaluate(model, Split(points.x, y, 1.0), Linf(0.1), BY_GRADIENT)
    assert (check.value, check.verdict) == (1.0, "fail")
    assert "does not reach its input" in check.detail
    assert "C6" in " ".join(record.finding.reasons)
    assert record.finding.status == "unreliable"
    assert "does not reach its input" in record.steps[1].skipped
    assert not any(record.steps[1].attacked), "an attack that could not run withstood nothing"
    assert not model.training
    assert not any(module.training for module in model.modules())


def test_trap_13_a_confidence_is_a_share_and_means_what_it_says():
    for vacuous in (-1.0, -0.5, 0.0, 1.0, 2.0, 95.0):  # the first is an alpha of 2
        with pytest.raises(ValueError, match="confidence"):
            wilson(100, 100, vacuous)
    for total in (10, 40, 100):
        bounds = [wilson(hits, total) for hits in range(total + 1)]
        assert all(low < hits / total for hits, (low, _) in enumerate(bounds) if hits)
        assert bounds[-1][0] < 1, "every vote for one class proves nothing for sure"
        covered = []
        for share in torch.linspace(0.02, 0.98, 49).tolist():
            odds = [
                math.comb(total, k) * share**k * (1 - share) ** (total - k)
                for k in range(total + 1)
            ]
            covered.append(
                sum(p for p, (low, high) in zip(odds, bounds, strict=True) if low <= share <= high)
            )
        assert 0.94 < sum(covered) / len(covered) < 0.97
        assert min(covered) > 0.83


def stop_after(count):
    def watch(progress):
        nonlocal count
        count -= 1
        if not count:
            raise KeyboardInterrupt

    return watch


def test_trap_15_a_half_written_state_is_resumed_or_named_and_the_numbers_stay_numbers(
    linear, points, tmp_path
):
    whole = evaluate(linear, points, Linf(0.1), BY_STEPS)
    assert 0 < sum(whole.robust) < sum(whole.clean)

    def go_on(folder, batch=7):
        asked = []
        handle = linear.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
        conditions = Conditions(batch=batch, resume=True)
        try:
            evaluate(linear, points, Linf(0.1), BY_STEPS, out=folder, conditions=conditions)
        finally:
            handle.remove()
        return read_record(folder / "record.json"), sum(asked)

    for count in (1, 6, 8):  # in the clean pass, and in either step
        out = tmp_path / str(count)
        conditions, watch = Conditions(batch=10), stop_after(count)
        with pytest.raises(KeyboardInterrupt):
            evaluate(
                linear, points, Linf(0.1), BY_STEPS, out=out, conditions=conditions, watch=watch
            )
        blocks = sorted((out / "blocks").glob("*.json"))
        text = blocks[-1].read_text()
        torn = blocks[-1].with_name(f".{blocks[-1].name}.dead.part")
        torn.write_text(text[: len(text) // 2])  # as a kill leaves it
        blocks[-1].write_text(text[: len(text) // 2])  # as a full disk does
        with pytest.raises(Refusal, match=blocks[-1].name):
            go_on(out)
        assert not torn.exists()
        blocks[-1].unlink()
        read, asked = go_on(out)
        assert (read.clean, read.steps, read.robust) == (whole.clean, whole.steps, whole.robust)
        assert read.robust_accuracy == whole.robust_accuracy == sum(read.robust) / len(read.clean)
        assert all(type(bit) is bool for step in read.steps for bit in step.success)
        again, nothing = go_on(out)
        assert again == read
        assert nothing < asked
        (out / "record.json").unlink()
        shown = len(load_file(out / "originals.safetensors")["said"])  # what they are taken for
        assert go_on(out)[1] == nothing + shown, "what was finished is asked again"


def test_trap_17_several_values_of_a_knob_are_the_worst_case_of_all_and_each_is_told(
    net, handwriting
):
    widths = (0.05, 0.25, 1.0, 4.0)
    members = [
        Step(f"hart-{width:g}", Attack(PGD(4), rule=HART(Triangle(width))), everyone=True)
        for width in widths
    ]
    tried, conditions = Suite("grid", tuple(members)), Conditions(limit=60)
    record = evaluate(net, handwriting.test, Linf(0.1), tried, conditions=conditions)
    own = [robust_accuracy(record.clean, step.success) for step in record.steps]
    worst = [
        right and not any(step.success[i] for step in record.steps)
        for i, right in enumerate(record.clean)
    ]
    assert list(record.robust) == worst
    assert record.robust_accuracy == sum(worst) / 60 < min(own), "the best single value"
    assert len(set(own)) > 1
    told = summary(record)
    assert told["robust_accuracy"] == record.robust_accuracy
    assert [step["robust_accuracy"] for step in told["steps"]] == own
    assert [step.id for step in record.steps] == [step.id for step in members]
    assert [step.attack["rule"]["surrogate"]["gamma"] for step in record.steps] == [*widths]
    # Whatever had been chosen by looking at samples would change with them.
    for part in (1, 2):
        half = replace(conditions, shard=(part, 2))
        alone = evaluate(net, handwriting.test, Linf(0.1), tried, conditions=half)
        for mine, other in zip(alone.steps, record.steps, strict=True):
            assert mine.attack == other.attack
            assert mine.success == tuple(other.success[place] for place in alone.places)


def test_trap_20_both_success_rates_come_from_one_robust_accuracy(linear, points):
    suite = Suite("s", (Step("pgd", Attack(PGD(5)), everyone=True),))
    record = evaluate(linear, points, Linf(0.1), suite)
    with under_attack(linear), torch.no_grad():
        wrong = (linear(points.x).argmax(1) != points.y).tolist()
    count, fell = len(points), sum(record.steps[0].success)
    assert 0 < sum(wrong) < count
    assert 0 < fell < count - sum(wrong)
    assert not any(w and s for w, s in zip(wrong, record.steps[0].success, strict=True))
    assert record.robust_accuracy == (count - sum(wrong) - fell) / count, "over all samples"
    over_correct = success_over_correct(record.clean_accuracy, record.robust_accuracy)
    over_all = success_over_all(record.robust_accuracy)
    assert over_correct == pytest.approx(fell / (count - sum(wrong)))
    assert over_all == pytest.approx((fell + sum(wrong)) / count)
    assert over_correct < over_all
    (step,) = summary(record)["steps"]
    assert step["success_over_correct"] == pytest.approx(over_correct)
    assert step["robust_accuracy"] == record.robust_accuracy
