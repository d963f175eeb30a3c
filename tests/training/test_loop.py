from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikeproof.attacks import PGD
from spikeproof.errors import Refusal
from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import IF, LIF, Gates, Spiking, drawing_from
from spikeproof.training import (
    MPDSGR,
    SGD,
    SR,
    TET,
    TRADES,
    Adam,
    AdamW,
    Adversarial,
    Constant,
    Cosine,
    CrossEntropy,
    Plan,
    Progress,
    Steps,
    accuracy,
    factor,
    fit,
    load_weights,
    measure,
    penalised,
)

ONE = {"accuracy": 1.0}


class Points:
    """Two clouds on either side of a line through the plane."""

    def __init__(self, count: int, name: str = "train") -> None:
        self.x = torch.randn(count, 2, generator=generator(0, name))
        self.y = (self.x @ torch.tensor([1.0, -2.0]) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class Noisy(nn.Module):
    """Batch norm for a buffer that learns, noise from a generator that is handed in."""

    generator: torch.Generator | None = None

    def __init__(self) -> None:
        super().__init__()
        with isolated(1, "noisy"):
            self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU())
            self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers(x)
        if self.training and self.generator is not None:
            h = h * torch.empty_like(h).bernoulli_(0.9, generator=self.generator)
        return self.head(h)


class Interrupted(Exception):
    """What a test raises where a kill would have come."""


def with_noise(model: nn.Module, draw: torch.Generator) -> nn.Module:
    model.generator = draw
    return model


def jitter(x: Tensor, draw: torch.Generator) -> Tensor:
    return x + 0.1 * torch.randn(x.shape, generator=draw)


def plan(**knobs) -> Plan:
    given = {"epochs": 3, "batch": 8, "optimizer": SGD(0.05, momentum=0.9), "save_every": 2}
    return Plan(**{**given, "log_every": 1, **knobs})


def train(folder: Path, chosen: Plan, **knobs) -> nn.Module:
    model, held_out = Noisy(), Points(40, "validation")
    given = {"validate": lambda view: measure(view, held_out), "augment": jitter}
    knobs = {**given, "per_step": with_noise, "spec": {"name": "noisy"}, **knobs}
    fit(model, Points(28), CrossEntropy(), chosen, folder, **knobs)
    return model


def stop_at(step: int, error: type[BaseException] = Interrupted) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.step == step:
            raise error

    return watch


def kept(folder: Path) -> dict[str, bytes]:
    names = ("plan.json", "spec.json", "state.safetensors", "model.safetensors", "metrics.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


OPTIMIZERS = [
    SGD(0.05),
    SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    Adam(0.01, weight_decay=1e-3),
    AdamW(0.01),
]
SCHEDULES = [Constant(), Cosine(0.1), Steps((1, 1.5))]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: each.kind)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.kind)
def test_an_interrupted_run_ends_with_the_same_files(tmp_path: Path, optimizer, schedule):
    chosen = plan(optimizer=optimizer, schedule=schedule, warmup=0.5, clip=1.0)
    train(tmp_path / "whole", chosen)
    whole = kept(tmp_path / "whole")
    resume = False
    for step in (3, 5, 8, 11):  # inside epochs, at their ends, off and on the saves
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", chosen, watch=stop_at(step), resume=resume)
        resume = True
    train(tmp_path / "parts", chosen, resume=True)
    assert kept(tmp_path / "parts") == whole


def test_every_step_can_be_the_last_before_a_resume(tmp_path: Path):
    train(tmp_path / "whole", plan())
    whole = kept(tmp_path / "whole")
    for step in range(1, 13):
        for error in (Interrupted, KeyboardInterrupt):
            folder = tmp_path / f"{error.__name__}{step}"
            with pytest.raises(error):
                train(folder, plan(), watch=stop_at(step, error))
            train(folder, plan(), resume=True)
            assert kept(folder) == whole


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(tmp_path: Path):
    model = train(tmp_path, plan())
    before = kept(tmp_path)
    again = train(tmp_path, plan(), resume=True)
    assert kept(tmp_path) == before
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_the_seed_and_nothing_else_decides(tmp_path: Path):
    one, two = (train(tmp_path / name, plan()) for name in ("one", "two"))
    assert kept(tmp_path / "one") == kept(tmp_path / "two")
    other = train(tmp_path / "other", plan(seed=1))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_each_step_draws_from_its_own_generators(tmp_path: Path):
    drawn: dict[str, list[float]] = {"augment": [], "noise": []}

    def augment(x: Tensor, draw: torch.Generator) -> Tensor:
        drawn["augment"].append(torch.rand((), generator=draw).item())
        return x

    def per_step(model: nn.Module, draw: torch.Generator) -> nn.Module:
        drawn["noise"].append(torch.rand((), generator=draw).item())
        return model

    train(tmp_path, plan(seed=5), augment=augment, per_step=per_step)
    for name, values in drawn.items():
        draws = [torch.rand((), generator=generator(5, name, step)) for step in range(12)]
        assert values == [draw.item() for draw in draws]
        assert len(set(values)) == 12


@pytest.mark.parametrize("left_out", ["augment", "per_step"])
def test_augmentation_and_noise_reach_the_step(tmp_path: Path, left_out: str):
    whole = train(tmp_path / "whole", plan())
    without = train(tmp_path / "without", plan(), **{left_out: None})
    assert not torch.equal(whole.head.weight, without.head.weight)


def test_the_loop_is_gradient_descent_by_hand(tmp_path: Path):
    chosen = plan(
        epochs=2, optimizer=SGD(0.5), schedule=Cosine(), warmup=0.5, clip=0.2, seed=7, batch=8
    )
    samples = Points(20)
    with isolated(2, "linear"):
        model = nn.Linear(2, 2)
    weight, bias = (p.detach().clone().requires_grad_() for p in model.parameters())
    fit(model, samples, CrossEntropy(), chosen, tmp_path, validate=lambda view: {"accuracy": 0.0})
    step = 0
    for epoch in range(2):
        order = torch.randperm(20, generator=generator(7, "order", epoch))
        for chunk in (order[:8], order[8:16], order[16:]):
            logits = samples.x[chunk] @ weight.T + bias
            loss = -logits.log_softmax(1)[range(len(chunk)), samples.y[chunk]].mean()
            gradients = torch.autograd.grad(loss, (weight, bias))
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            lr = 0.5 * factor(chosen, step, per_epoch=3) * min(1.0, 0.2 / norm)
            with torch.no_grad():
                weight -= lr * gradients[0]
                bias -= lr * gradients[1]
            assert lines(tmp_path)[step + epoch]["loss"] == pytest.approx(loss.item(), abs=1e-5)
            step += 1
    torch.testing.assert_close(model.weight, weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.bias, bias, rtol=1e-4, atol=1e-5)


def test_lines_tell_every_step_and_epoch_once(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan(log_every=3), watch=stop_at(7, KeyboardInterrupt))
    train(tmp_path, plan(log_every=3), resume=True)
    told = [(line["kind"], line["step"], line["epoch"]) for line in lines(tmp_path)]
    assert told == [
        ("step", 3, 1),
        ("epoch", 4, 1),
        ("step", 6, 2),
        ("epoch", 8, 2),
        ("step", 9, 3),
        ("step", 12, 3),
        ("epoch", 12, 3),
    ]


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples(tmp_path: Path):
    train(tmp_path, plan(epochs=1))
    *steps, epoch = lines(tmp_path)
    mean = sum(line["loss"] * size for line, size in zip(steps, (8, 8, 8, 4), strict=True)) / 28
    assert epoch["loss"] == pytest.approx(mean)


def test_the_epoch_with_the_best_validation_is_deployed(tmp_path: Path):
    scores, seen = iter((0.3, 0.8, 0.8, 0.5)), []

    def validate(view: nn.Module) -> dict[str, float]:
        assert not view.training
        seen.append(view.head.weight.detach().clone())
        return {"loss": 0.0, "robust": next(scores)}

    model = Noisy()
    chosen = plan(epochs=4, select="robust")
    outcome = fit(model, Points(28), CrossEntropy(), chosen, tmp_path, validate=validate)
    assert (outcome.best, outcome.best_epoch, outcome.steps) == (0.8, 2, 16)
    assert torch.equal(seen[3], model.head.weight)
    load_weights(tmp_path, model)
    assert torch.equal(seen[1], model.head.weight)


def test_a_separable_problem_is_learnt(tmp_path: Path):
    chosen = plan(epochs=30, optimizer=Adam(0.03), schedule=Cosine(), batch=16)
    model, held_out = Noisy(), Points(200, "validation")
    fit(
        *(model, Points(200), CrossEntropy(), chosen, tmp_path),
        validate=lambda view: measure(view, held_out),
    )
    load_weights(tmp_path, model)
    assert accuracy(model, held_out) > 0.96


def test_tet_trains_a_network_over_time(tmp_path: Path):
    class OverTime(Noisy):
        def steps(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return torch.stack((0.5 * logits, 1.5 * logits))

    model = OverTime()
    fit(
        *(model, Points(200), TET(lamb=0.01), plan(epochs=10), tmp_path),
        validate=lambda view: {"accuracy": accuracy(view, Points(50))},
    )
    assert accuracy(model, Points(100, "validation")) > 0.9


def test_a_threshold_that_a_step_took_below_its_floor_comes_back_to_it(tmp_path: Path):
    neuron = IF(theta=0.04, floor=0.03, learn_theta=True)
    model = nn.Sequential(Spiking(neuron, 1, opens_time=True))
    theta = model[0].learned["theta"]
    seen = []

    def downwards(view: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        seen.append(theta.item())
        return (1 if len(seen) < 3 else -1) * theta

    chosen = plan(epochs=1, batch=16, optimizer=SGD(1.0), schedule=Constant())
    fit(model, Points(64), downwards, chosen, tmp_path, validate=lambda _: ONE)
    assert seen == pytest.approx([0.04, 0.03, 0.03, 1.03])


def test_bfloat16_runs_on_a_cpu_and_resumes(tmp_path: Path):
    seen = []
    chosen = plan(precision="bfloat16")
    model = Noisy()
    model.head.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    score = {"validate": lambda view: {"accuracy": 0.5}}
    fit(model, Points(28), CrossEntropy(), chosen, tmp_path / "whole", **score)
    assert set(seen) == {torch.bfloat16}
    assert model.head.weight.dtype == torch.float32
    with pytest.raises(Interrupted):
        fit(
            *(Noisy(), Points(28), CrossEntropy(), chosen, tmp_path / "parts"),
            watch=stop_at(5),
            **score,
        )
    fit(Noisy(), Points(28), CrossEntropy(), chosen, tmp_path / "parts", resume=True, **score)
    assert kept(tmp_path / "parts") == kept(tmp_path / "whole")


def test_float16_needs_a_gpu(tmp_path: Path):
    with pytest.raises(Refusal, match="precision is float16 and the device is cpu"):
        train(tmp_path / "run", plan(precision="float16"))
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_trains_and_resumes_in_every_precision(tmp_path: Path, precision):
    chosen = plan(precision=precision, epochs=10, optimizer=Adam(0.03))
    held_out = Points(100, "validation")

    def run(**knobs) -> nn.Module:
        model = Noisy()
        knobs = {"augment": jitter, "per_step": with_noise, "device": "cuda", **knobs}
        fit(
            *(model, Points(100), CrossEntropy(), chosen, tmp_path),
            validate=lambda view: measure(view, held_out, device="cuda"),
            **knobs,
        )
        return model

    with pytest.raises(Interrupted):
        run(watch=stop_at(57))
    assert accuracy(run(resume=True), held_out, device="cuda") > 0.9


def test_a_loss_that_is_no_number_stops_and_keeps_what_was(tmp_path: Path):
    calls = []

    def breaks(model: nn.Module, x: Tensor, y: Tensor, _: int) -> Tensor:
        calls.append(None)
        return CrossEntropy()(model, x, y) * (math.nan if len(calls) == 7 else 1.0)

    validate = {"validate": lambda view: {"accuracy": 0.5}}
    with pytest.raises(Refusal, match=r"the loss is nan at step 7; .* lower optimizer\.lr"):
        fit(Noisy(), Points(28), breaks, plan(), tmp_path, **validate)
    assert lines(tmp_path)[-1]["step"] == 6
    outcome = fit(Noisy(), Points(28), breaks, plan(), tmp_path, resume=True, **validate)
    assert outcome.steps == 12


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path):
    def poisons(model: nn.Module, x: Tensor, y: Tensor, _: int) -> Tensor:
        return CrossEntropy()(model, x, y) + (model.head.bias - model.head.bias).sqrt().sum()

    with pytest.raises(Refusal, match=r"weight \S+ is not finite after step 1;"):
        fit(
            *(Noisy(), Points(28), poisons, plan(save_every=1), tmp_path),
            validate=lambda view: {"accuracy": 0.5},
        )
    assert not (tmp_path / "state.safetensors").exists()


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(tmp_path: Path):
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path / "whole", plan(save_every=100))
    calls = []

    def presses(x: Tensor, draw: torch.Generator) -> Tensor:
        calls.append(None)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return jitter(x, draw)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", plan(save_every=100), augment=presses)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(calls) == 6
    train(tmp_path / "parts", plan(save_every=100), augment=presses, resume=True)
    assert len(calls) == 12
    assert kept(tmp_path / "parts") == kept(tmp_path / "whole")


def test_ctrl_c_in_validation_keeps_the_steps(tmp_path: Path):
    train(tmp_path / "whole", plan(save_every=100))
    steps = []

    def presses(view: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", plan(save_every=100), validate=presses)
    watch = {"watch": lambda progress: steps.append(progress.step)}
    train(tmp_path / "parts", plan(save_every=100), resume=True, **watch)
    assert steps == list(range(5, 13))
    assert kept(tmp_path / "parts") == kept(tmp_path / "whole")


def test_an_interrupt_that_breaks_a_step_is_not_saved(tmp_path: Path):
    def breaks(model: nn.Module, x: Tensor, y: Tensor, _: int) -> Tensor:
        model(x)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(*(Noisy(), Points(28), breaks, plan(), tmp_path), validate=lambda view: {})
    assert not (tmp_path / "state.safetensors").exists()


def test_a_spoilt_state_is_refused_and_stays(tmp_path: Path):
    with pytest.raises(Interrupted):
        train(tmp_path, plan(), watch=stop_at(5))
    state = tmp_path / "state.safetensors"
    whole = state.read_bytes()
    before = {each: each.read_bytes() for each in tmp_path.iterdir() if each != state}
    for spoilt in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"PK\x03\x04 torch"):
        state.write_bytes(spoilt)
        with pytest.raises(Refusal, match=r"state\.safetensors"):
            train(tmp_path, plan(), resume=True)
        assert state.read_bytes() == spoilt
        assert {each: each.read_bytes() for each in before} == before
    state.write_bytes(whole)
    train(tmp_path, plan(), resume=True)


def test_the_state_of_another_run_is_refused(tmp_path: Path):
    for name, seed in (("one", 1), ("two", 2)):
        train(tmp_path / name, plan(seed=seed))
    foreign = (tmp_path / "one" / "state.safetensors").read_bytes()
    (tmp_path / "two" / "state.safetensors").write_bytes(foreign)
    with pytest.raises(Refusal, match="is the state of another run"):
        train(tmp_path / "two", plan(seed=2), resume=True)


def test_a_resumed_run_keeps_plan_spec_and_samples(tmp_path: Path):
    train(tmp_path, plan())
    with pytest.raises(Refusal, match=r"plan\.optimizer\.lr was 0\.05 .* is 0\.1 now"):
        train(tmp_path, plan(optimizer=SGD(0.1, momentum=0.9)), resume=True)
    with pytest.raises(Refusal, match=r"plan\.optimizer\.(lr was 0\.05|betas was absent)"):
        train(tmp_path, plan(optimizer=Adam(0.1)), resume=True)
    with pytest.raises(Refusal, match=r"spec\.name was 'noisy' .* is 'other' now"):
        train(tmp_path, plan(), spec={"name": "other"}, resume=True)
    with pytest.raises(Refusal, match=r"samples was 28 .* is 20 now"):
        fit(
            *(Noisy(), Points(20), CrossEntropy(), plan(), tmp_path),
            validate=lambda view: {},
            spec={"name": "noisy"},
            resume=True,
        )
    with pytest.raises(Refusal, match="already holds a run"):
        train(tmp_path, plan())


def test_a_metric_to_select_by_must_be_there_and_be_a_number(tmp_path: Path):
    with pytest.raises(Refusal, match=r"select is 'acuracy'.*did you mean 'accuracy'"):
        train(tmp_path / "typo", plan(select="acuracy"))
    with pytest.raises(Refusal, match="validation metric accuracy is nan after step 4"):
        train(tmp_path / "nan", plan(), validate=lambda view: {"accuracy": math.nan})


def test_there_must_be_samples_and_weights(tmp_path: Path):
    score = {"validate": lambda view: {"accuracy": 0.5}}
    with pytest.raises(Refusal, match="0 samples"):
        fit(Noisy(), Points(0), CrossEntropy(), plan(), tmp_path, **score)
    with pytest.raises(Refusal, match="Noisy has no weight that requires a gradient"):
        fit(Noisy().requires_grad_(False), Points(9), CrossEntropy(), plan(), tmp_path, **score)
    assert list(tmp_path.iterdir()) == []


def test_frozen_weights_stay_and_modes_are_kept(tmp_path: Path):
    model = Noisy()
    model.head.requires_grad_(False)
    before = model.head.weight.clone()
    fit(
        *(model, Points(28), CrossEntropy(), plan(), tmp_path),
        validate=lambda view: measure(view, Points(9)),
    )
    assert torch.equal(model.head.weight, before)
    assert all(module.training for module in model.modules())


def test_progress_tells_where_the_run_stands(tmp_path: Path):
    told: list[Progress] = []
    train(tmp_path, plan(), watch=told.append)
    assert [each.step for each in told] == list(range(1, 13))
    assert [each.epoch for each in told] == [1] * 4 + [2] * 4 + [3] * 4
    assert all(each.steps == 12 and each.rate > 0 for each in told)
    assert told[-1].left == 0 < told[0].left
    assert [each.loss for each in told] == [
        line["loss"] for line in lines(tmp_path) if line["kind"] == "step"
    ]


def test_curves_are_drawn_if_asked_for(tmp_path: Path):
    train(tmp_path / "plain", plan(epochs=1))
    train(tmp_path / "drawn", plan(epochs=1, tensorboard=True))
    assert not (tmp_path / "plain" / "tensorboard").exists()
    assert list((tmp_path / "drawn" / "tensorboard").glob("events.*"))


def test_a_full_disk_surfaces_and_the_run_can_go_on(tmp_path: Path, monkeypatch):
    train(tmp_path / "whole", plan())
    write, calls = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        calls.append(None)
        if len(calls) == 3:
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path / "parts", plan())
    assert not list((tmp_path / "parts").glob(".*.part"))
    train(tmp_path / "parts", plan(), resume=True)
    assert kept(tmp_path / "parts") == kept(tmp_path / "whole")


def test_whole_numbers_in_a_plan_are_the_same_as_fractions(tmp_path: Path):
    with pytest.raises(Interrupted):
        train(tmp_path, plan(optimizer=SGD(1)), watch=stop_at(5))
    train(tmp_path, replace(plan(), optimizer=SGD(1.0)), resume=True)


def test_the_smallest_loss_can_select(tmp_path: Path):
    losses = iter([0.5, 0.2, 0.4])
    chosen = plan(epochs=3, select="loss")
    outcome = fit(
        Noisy(),
        Points(40),
        CrossEntropy(),
        chosen,
        tmp_path,
        validate=lambda _: {"loss": next(losses)},
    )
    assert (outcome.best_epoch, outcome.best) == (2, -0.2)


def test_a_single_sample_left_over_does_not_stop_a_norm(tmp_path: Path):
    train(tmp_path, plan(epochs=1, batch=39))
    assert lines(tmp_path)[-1]["kind"] == "epoch"


def test_an_unknown_metric_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(Refusal, match="select is 'f1'"):
        train(tmp_path / "run", plan(epochs=1, select="f1", save_every=99))
    assert not (tmp_path / "run").exists()


class Squares(Points):
    """Small pictures, of which one half is brighter."""

    def __init__(self, count: int, name: str = "train") -> None:
        self.x = torch.rand((count, 1, 8, 8), generator=generator(0, name))
        self.y = torch.arange(count) % 2
        self.x[self.y == 1, :, :4] *= 0.3


RECOMPUTED = {
    "natural": CrossEntropy(),
    "adversarial": Adversarial(search=PGD(2)),
    "trades": TRADES(search=PGD(2)),
    "sr": penalised(CrossEntropy(), [SR()]),
    "mpd_sgr": penalised(TET(), [MPDSGR()]),
}


@pytest.mark.parametrize("objective", RECOMPUTED.values(), ids=RECOMPUTED)
def test_layers_that_run_again_give_the_same_files(tmp_path: Path, objective):
    setting, found = Setting(1, 8, 2, T=3, neuron=LIF(theta=0.1), gates=Gates(0.8)), []
    for name in ("kept", "again"):
        chosen = plan(epochs=1, recompute=name == "again")
        model, samples = build(CNN((4,), 6), setting), Squares(16)
        start = {n: p.clone() for n, p in model.named_parameters()}
        knobs = {"per_step": drawing_from, "spec": {}}
        fit(model, samples, objective, chosen, tmp_path / name, **knobs, validate=lambda _: ONE)
        found.append((tmp_path / name / "model.safetensors").read_bytes())
        assert any(not torch.equal(p, start[n]) for n, p in model.named_parameters())
    assert found[0] == found[1]


def test_only_layers_that_are_known_run_again(tmp_path: Path):
    with pytest.raises(Refusal, match="Noisy holds no SpikingNetwork"):
        train(tmp_path, plan(recompute=True))
