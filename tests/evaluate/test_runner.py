from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeproof.attacks import (
    APGD,
    CE,
    FGSM,
    PGD,
    Attack,
    Linf,
    RandomSearch,
    Search,
    StepCE,
    fingerprint,
    under_attack,
)
from spikeproof.errors import Refusal
from spikeproof.evaluate import Adaptive, Conditions, Step, Suite, _runner, evaluate
from spikeproof.evaluate._blocks import Blocks
from spikeproof.spiking import ASSG

THREAT = Linf(0.2)
PGD10 = Attack(PGD(10))


def suite(*steps):
    made = [s if isinstance(s, Step) else Step(f"step-{i}", s) for i, s in enumerate(steps)]
    return Suite("mine", tuple(made))


def bits(record):
    return replace(record, times={}, environment={})


def stands(model, points, eps):
    """The closed form: under Linf, clipped to the range, a linear margin moves by so much."""
    x = points.x.flatten(1)
    w = (model.weight[0] - model.weight[1]).detach()
    toward = torch.where(points.y == 0, -1.0, 1.0)[:, None] * w.sign()
    worst = (x + eps * toward).clamp(0, 1) @ w
    return [(m > 0) if y == 0 else (m < 0) for m, y in zip(worst.tolist(), points.y, strict=True)]


def test_what_stands_is_what_the_closed_form_says(linear, points):
    record = evaluate(linear, points, THREAT, suite(Attack(RandomSearch(20)), PGD10))
    truth = [bool(v) for v in stands(linear, points, 0.2)]
    assert list(record.robust) == truth
    assert 0 < sum(truth) < sum(record.clean)
    with torch.no_grad():
        assert list(record.clean) == (linear(points.x).argmax(1) == points.y).tolist()


def test_only_those_that_stand_are_attacked_and_everyone_means_those_that_were_right(
    linear, points
):
    steps = suite(Attack(RandomSearch(20)), PGD10, Step("all", PGD10, everyone=True))
    first, second, everyone = evaluate(linear, points, THREAT, steps).steps
    clean = first.attacked
    left = tuple(a and not b for a, b in zip(clean, first.success, strict=True))
    assert second.attacked == left
    assert everyone.attacked == clean
    broken = zip(second.success, everyone.success, strict=True)
    assert all(e or not s for s, e in broken)


def test_a_curve_meets_everyone_and_removes_nobody(linear, points):
    curve = [Step(f"eps-{e}", PGD10, threat=Linf(e), limit=20) for e in (0.0, 0.2, 1.0)]
    record = evaluate(linear, points, THREAT, suite(*curve, PGD10))
    none, some, every, last = record.steps
    assert not any(none.success)
    assert sum(every.success) == sum(record.clean[:20]) == sum(every.attacked) > sum(some.success)
    assert last.attacked == record.clean
    assert every.threat["eps"] == 1.0


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_bits_do_not_depend_on_the_batch(net, handwriting, batch):
    steps = suite(
        Attack(RandomSearch(5)),
        Attack(PGD(4), rule=ASSG(), restarts=2),
        Attack(APGD(8), CE(), ASSG()),
    )
    data, conditions = handwriting.test, Conditions(limit=70)
    whole = evaluate(net, data, Linf(0.08), steps, conditions=replace(conditions, batch=33))
    assert 0 < sum(whole.robust) < sum(whole.clean)
    parts = evaluate(net, data, Linf(0.08), steps, conditions=replace(conditions, batch=batch))
    assert bits(parts) == bits(whole)


def test_the_seed_and_the_step_decide_the_noise(net, handwriting):
    draws = Attack(RandomSearch(6))
    found = [
        evaluate(net, handwriting.test, Linf(0.15), suite(draws), conditions=Conditions(60, seed))
        for seed in (0, 0, 1)
    ]
    assert bits(found[0]) == bits(found[1])
    assert found[0].steps[0].at != found[2].steps[0].at


class Crashing(Search):
    kind = "crashing"

    def __init__(self, spoiled):
        self.spoiled = spoiled

    def __call__(self, s):
        if any(bool((s.clean == x).flatten(1).all(1).any()) for x in self.spoiled):
            raise ZeroDivisionError("no such luck")
        FGSM()(s)

    def __repr__(self):
        return "Crashing()"


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_crash_costs_the_samples_that_crash_and_the_verdict(linear, points, batch):
    spoiled = points.x[[3, 20]]
    crashing = Attack(Crashing(spoiled))
    record = evaluate(
        linear, points, THREAT, suite(crashing, PGD10), conditions=Conditions(batch=batch)
    )
    crashed, after = record.steps
    assert [i for i, hit in enumerate(crashed.crashed) if hit] == [3, 20]
    assert crashed.message == "ZeroDivisionError: no such luck"
    assert not crashed.success[3]
    assert after.attacked[3], "who was not attacked still stands"
    assert record.finding.status == "unreliable"
    assert "step-0 crashed on 2 samples" in record.finding.reasons[0]
    assert list(record.robust) == [bool(v) for v in stands(linear, points, 0.2)]
    fine = evaluate(linear, points, THREAT, suite(Attack(FGSM())))
    ours = [s for i, s in enumerate(crashed.success) if i not in (3, 20)]
    assert ours == [s for i, s in enumerate(fine.steps[0].success) if i not in (3, 20)]


class Hungry(nn.Module):
    def __init__(self, inner, most, error):
        super().__init__()
        self.inner, self.most, self.error, self.sizes = inner, most, error, []

    def forward(self, x):
        if len(x) > self.most and torch.is_grad_enabled():
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB")
        self.sizes.append(len(x))
        return self.inner(x)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_batch_that_is_too_big_is_halved_and_the_run_goes_on(linear, points, error):
    hungry = Hungry(linear, 6, error)
    record = evaluate(hungry, points, THREAT, suite(PGD10), conditions=Conditions(batch=32))
    plain = evaluate(linear, points, THREAT, suite(PGD10))
    assert record.robust == plain.robust
    assert record.steps[0].at == plain.steps[0].at
    assert not any(record.steps[0].crashed)
    assert record.finding.status == "no evidence of masking"
    assert max(hungry.sizes) <= 32


def lie(model, x, y, threat):
    out = x.clone()
    out[0] = 1 - x[0]  # fools, far outside the budget
    out[1:2] = torch.nan
    return out


def test_the_judge_rejects_what_is_claimed_and_the_sample_stands(linear, points):
    record = evaluate(linear, points, Linf(0.01), suite(Step("lie", lie)))
    step = record.steps[0]
    first = record.clean.index(True)
    assert step.inadmissible[first]
    assert sum(step.inadmissible) == 2  # NaN fools a linear net as well
    assert not any(step.success)
    assert record.robust == record.clean
    assert record.finding.status == "unreliable"
    assert record.finding.reasons[0].startswith("C4")


class Fickle(nn.Module):
    """Answers wrongly whenever it is asked about several samples at once."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        logits = self.inner(x)
        return -logits if len(x) == 5 else logits


def test_a_success_that_does_not_repeat_at_another_batch_size_is_a_mismatch(linear, points):
    kept = [i for i in range(41) if i % 8][:5]
    data = points.take(torch.tensor(kept))
    none = Attack(RandomSearch(1))
    record = evaluate(Fickle(linear), data, Linf(0.0), suite(none), conditions=Conditions(batch=5))
    assert record.steps[0].unconfirmed == (True,) * 5
    assert record.robust == (True,) * 5
    assert record.finding.reasons[0].startswith("C5")


def greedy(standing):
    """An attack of a user's own: one step against the weights that it knows."""
    gradient, _ = standing.gradient(standing.x)
    standing.look(standing.ball.project(standing.clean + gradient.sign(), standing.clean))


def corner(model, x, y, threat):
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(x), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    return threat.project(x.detach() + threat.eps * gradient.sign(), x.detach())


@pytest.mark.parametrize("attack", [Attack(Adaptive(greedy)), corner], ids=["standing", "function"])
def test_an_attack_of_your_own_is_a_step_like_any_other(linear, points, attack):
    record = evaluate(linear, points, THREAT, suite(Step("S14-mine", attack)))
    assert list(record.robust) == [bool(v) for v in stands(linear, points, 0.2)]
    assert "greedy" in str(record.steps[0].attack) or "corner" in str(record.steps[0].attack)
    assert record.finding.status == "no evidence of masking"


def test_a_function_that_returns_something_else_is_a_crash_and_not_a_success(linear, points):
    record = evaluate(linear, points, THREAT, suite(Step("odd", lambda m, x, y, t: x[..., :1])))
    assert "returns a tensor of shape" in record.steps[0].message
    assert record.finding.status == "unreliable"


class Deaf(nn.Module):
    """A network whose gradient never reaches the input."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.detach())


def test_without_a_gradient_the_black_box_steps_run_and_the_others_say_why_not(linear, points):
    steps = suite(
        PGD10, Attack(RandomSearch(200)), Attack(PGD(3), StepCE()), Attack(PGD(3), rule=ASSG())
    )
    record = evaluate(Deaf(linear), points, THREAT, steps)
    blocked, random, stepwise, ruled = record.steps
    assert "does not reach its input" in blocked.skipped
    assert "no method steps" in stepwise.skipped
    assert "no layer of spikeproof's neurons" in ruled.skipped
    assert not any(blocked.attacked)
    assert any(random.success)
    assert record.finding.status == "flagged"
    assert "not run: step-0, step-2, step-3" in record.finding.reasons[0]


def test_a_refusal_in_the_middle_of_a_step_is_a_crash(linear, points):
    turns = []

    def moody(model, x, y, threat):
        turns.append(len(x))
        if len(turns) > 2:
            raise Refusal("enough")
        return x

    record = evaluate(
        linear, points, THREAT, suite(Step("moody", moody)), conditions=Conditions(batch=10)
    )
    assert record.steps[0].message == "enough"
    assert record.finding.status == "unreliable"


def test_an_attack_that_changes_a_weight_ends_the_evaluation(linear, points, tmp_path):
    def poison(model, x, y, threat):
        model.weight.data.add_(1)
        return x

    with pytest.raises(RuntimeError, match="step poison changed a weight"):
        evaluate(linear, points, THREAT, suite(Step("poison", poison)), out=tmp_path / "out")
    assert not list((tmp_path / "out" / "blocks").glob("001-*"))


def test_an_attack_that_leaves_the_model_training_is_put_right(points):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Identity())
    model[2] = _fixed()

    def wake(model, x, y, threat):
        model.train()
        return x

    record = evaluate(model.eval(), points, THREAT, suite(Step("wake", wake), Attack(FGSM())))
    assert not any(record.steps[0].unconfirmed)
    assert not model.training


def _fixed():
    from spikeproof.seeding import isolated

    with isolated(0, "fixed"):
        return nn.Linear(4, 2)


def test_the_model_comes_back_as_it_was(linear, points):
    linear.train()
    before = fingerprint(linear)
    evaluate(linear, points, THREAT, suite(PGD10))
    assert linear.training
    assert linear.weight.requires_grad
    assert fingerprint(linear) == before


def test_what_is_told_of_progress(linear, points):
    told = []
    record = evaluate(
        linear, points, THREAT, suite(PGD10), conditions=Conditions(batch=16), watch=told.append
    )
    assert [(p.step, p.done, p.of) for p in told[:3]] == [
        ("clean", 16, 41),
        ("clean", 32, 41),
        ("clean", 41, 41),
    ]
    assert told[-1].standing == sum(record.robust)
    assert told[-1].number == told[-1].steps == 1
    assert told[-1].done == told[-1].of == sum(record.clean)
    assert told[-1].left == 0
    assert all(p.rate > 0 for p in told)


def test_costs_are_those_of_each_sample(linear, points):
    step = evaluate(linear, points, Linf(0.05), suite(Attack(PGD(6)))).steps[0]
    for hit, met, at, forwards, backwards, size in zip(
        step.success, step.attacked, step.at, step.forwards, step.backwards, step.size, strict=True
    ):
        assert forwards == (at if hit else 7 * met)
        assert backwards == (min(at, 6) if hit else 6 * met)
        assert (size > 0) == hit
        assert size <= 0.05 + 1e-6


def test_a_finished_block_is_not_run_again(linear, points):
    data = points
    from spikeproof.evaluate._intake import survey

    with under_attack(linear):
        job = _runner.Job(
            linear,
            data,
            survey(data, 0, THREAT),
            tuple(range(41)),
            THREAT,
            suite(PGD10),
            0,
            torch.device("cpu"),
            fingerprint(linear),
        )
        blocks = Blocks(None)
        first = _runner.conduct(job, blocks, 8)
        asked = []
        linear.register_forward_hook(lambda *_: asked.append(1))
        again = _runner.conduct(job, blocks, 3)
    assert again[:2] == first[:2]
    assert asked == []


def test_events_that_no_sensor_delivers_count_for_nothing(monkeypatch):
    """Even if the threat itself would let them through."""
    from spikeproof.attacks import Flips
    from spikeproof.data import Split

    class Busy(nn.Module):
        def forward(self, x):
            count = x.flatten(1).sum(1) - 6.5
            return torch.stack([-count, count], 1)

    x = torch.zeros(2, 2, 2, 2, 2)
    x[:, 0, 0, 0] = x[:, 0, 1] = 1  # six events
    frames = Split(x, torch.zeros(2, dtype=torch.int64), 1.0)

    def add(model, x, y, threat):
        out = x.clone()
        out[:, 1, 0, 0, 0] = 1
        out[0, 1, 1, 1, 1] = 0.5  # half an event
        return out

    monkeypatch.setattr(Flips, "admits", lambda self, x_adv, x: torch.ones(len(x)) > 0)
    record = evaluate(Busy(), frames, Flips(3), suite(Step("add", add)))
    step = record.steps[0]
    assert (step.infeasible, step.success) == ((True, False), (False, True))
    assert not any(step.inadmissible)
    assert record.finding.status == "unreliable"
    assert record.finding.reasons[0].startswith("C28 (event feasibility): 1 in add")
