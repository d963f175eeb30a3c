"""The one loop: order, augment, descend, log, validate, keep; killed anywhere, it goes on there.

Nothing random is remembered: the order of an epoch and the noise of a step are functions of the
seed and of their number. So weights, the optimizer's memory and a few counters are the whole state.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import Refusal, nearest, short
from spikeproof.seeding import derive, generator
from spikeproof.spiking import confine, recomputed
from spikeproof.training._average import Average, averaged, tensors
from spikeproof.training._checkpoint import STATE, load_state, save_model, save_state
from spikeproof.training._descent import descent
from spikeproof.training._folder import claimed
from spikeproof.training._metrics import Log, Samples, evaluating, summary_writer
from spikeproof.training._objectives import Objective
from spikeproof.training._order import batches
from spikeproof.training._plan import Plan
from spikeproof.training._progress import Progress, clock
from spikeproof.training._schedules import factor

Augment = Callable[[Tensor, torch.Generator], Tensor]
Validate = Callable[[nn.Module], Mapping[str, float]]
PerStep = Callable[[nn.Module, torch.Generator], nn.Module]
Hold = Callable[[nn.Module, torch.optim.Optimizer, int], None]


@dataclass(frozen=True)
class Outcome:
    """What a finished run comes to; ``best`` is what epoch ``best_epoch`` was selected for."""

    folder: Path
    steps: int
    best: float
    best_epoch: int


@dataclass
class _Counters:
    step: int = 0
    epoch: int = 0  # epochs that are validated and closed, so one less than the running one
    loss: float = 0.0  # sum over the samples that this epoch has seen
    seen: int = 0
    best: float = -math.inf
    best_epoch: int = 0


@dataclass
class _Run:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    plan: Plan
    path: Path
    name: str  # tells a state of this run from one that was copied here
    average: Average | None = None
    hold: Hold | None = None
    at: _Counters = field(default_factory=_Counters)
    between_steps: bool = True

    def save(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise Refusal(_diverged(f"weight {name} is not finite after", self.at.step))
        # JSON has no infinity.
        counters = {k: v for k, v in asdict(self.at).items() if v != -math.inf}
        note = {"run": self.name, "counters": counters, "scaler": self.scaler.state_dict()}
        save_state(self.path, self.model, self.optimizer, note, tensors(self.average))

    def restore(self) -> None:
        if not self.path.exists():
            return
        note = load_state(self.path, self.model, self.optimizer, tensors(self.average))
        if note["run"] != self.name:
            raise Refusal(
                f"{self.path} is the state of another run; a resumed run needs its own; "
                "put it back or start a new run in another --out"
            )
        self.at = _Counters(**note["counters"])
        self.scaler.load_state_dict(note["scaler"])


def fit(  # noqa: PLR0913  the door of the room: each argument is one free choice
    model: nn.Module,
    samples: Samples,
    objective: Objective,
    plan: Plan,
    folder: Path,
    *,
    validate: Validate,
    spec: Mapping[str, Any] | None = None,
    augment: Augment | None = None,
    per_step: PerStep | None = None,
    hold: Hold | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    watch: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Returns what training came to; the weights of the best epoch are in ``folder``.

    ``model`` itself ends with the weights of the last epoch, averaged where the plan says so. A
    run that was killed, at whatever moment, is continued by ``resume`` and ends with the same
    files, bit for bit on a CPU.

    Args:
        model: the network; it is moved to ``device`` and put into training mode.
        samples: what to learn from; the samples that ``validate`` uses should be others.
        objective: ``(model, x, y, seed)`` to the scalar that is made small.
        plan: every number of the run.
        folder: where plan, state, metrics and checkpoint go; one run a folder.
        validate: called after each epoch in evaluation mode; ``plan.select`` names one result.
        spec: how to build the network, kept as ``spec.json``; a resumed run must bring the same.
        augment: changes inputs, where the model is, by a step's generator, which is on the CPU.
        per_step: gives the view of the network to train in a step, with a generator for its noise.
        hold: called once the weights are in place and after every step, with the number of steps;
            it may change weights, and must remember nothing that they do not tell.
        device: where to compute.
        resume: continue the run in ``folder``; without it the folder must hold none.
        watch: called after each step.
    """
    device, folder, spec = torch.device(device), Path(folder), dict(spec or {})
    _check(model, samples, plan, device)
    writer = summary_writer() if plan.tensorboard else None
    promise = {"plan": asdict(plan), "samples": len(samples), "spec": spec}
    per_epoch = len(batches(len(samples), plan, 0))
    with claimed(folder, promise, resume=resume) as name:
        run = _start(model.to(device).train(), plan, folder / STATE, name, hold)
        at = run.at
        log = Log(folder, step=at.step, epoch=at.epoch, writer=writer)
        tell = clock(at.step, plan.epochs * per_epoch)
        try:
            while at.epoch < plan.epochs:
                order = batches(len(samples), plan, at.epoch)
                for index in order[at.step - at.epoch * per_epoch :]:
                    with _uninterrupted(run):
                        x, y = (part.to(device) for part in samples.batch(index))
                        if augment is not None:
                            x = augment(x, generator(plan.seed, "augment", at.step))
                        lr = plan.optimizer.lr * factor(plan, at.step, per_epoch)
                        loss = _descend(run, x, y, lr, objective, per_step)
                        if at.step % plan.log_every == 0:
                            log.add({**_line("step", at), "loss": loss, "lr": lr})
                    if watch is not None:
                        watch(tell(at.step, at.epoch + 1, loss, len(index)))
                    if at.step % plan.save_every == 0:
                        run.save()
                with _holding_the_mean(run), evaluating(model):
                    metrics = {name: float(value) for name, value in validate(model).items()}
                with _uninterrupted(run):
                    _close_epoch(run, metrics, log, spec)
                run.save()
        except KeyboardInterrupt:
            if run.between_steps:
                run.save()
            raise
        finally:
            log.close()
        if run.average is not None:
            run.average.exchange(model)
    return Outcome(folder, at.step, at.best, at.best_epoch)


def _descend(
    run: _Run, x: Tensor, y: Tensor, lr: float, objective: Objective, per_step: PerStep | None
) -> float:
    at, plan = run.at, run.plan
    view = recomputed(run.model) if plan.recompute else run.model
    if per_step is not None:
        view = per_step(view, generator(plan.seed, "noise", at.step, device=x.device))
    with torch.autocast(
        x.device.type, getattr(torch, plan.precision), enabled=plan.precision != "float32"
    ):
        loss = objective(view, x, y, derive(plan.seed, "objective", at.step))
    if not math.isfinite(value := loss.item()):
        raise Refusal(_diverged(f"the loss is {value} at", at.step + 1))
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()
    if plan.clip > 0:
        run.scaler.unscale_(run.optimizer)
        nn.utils.clip_grad_norm_(run.model.parameters(), plan.clip)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.scaler.step(run.optimizer)
    run.scaler.update()
    confine(run.model)
    at.step += 1
    for number, retract in enumerate(plan.retractions):
        retract(run.model, generator(plan.seed, "retraction", number, at.step, device=x.device))
    if run.hold is not None:
        run.hold(run.model, run.optimizer, at.step)
    if run.average is not None:
        run.average.update(run.model, at.step)
    run.optimizer.zero_grad(set_to_none=True)  # the next forward pass needs the memory
    at.loss, at.seen = at.loss + value * len(y), at.seen + len(y)
    return value


def _close_epoch(
    run: _Run, metrics: Mapping[str, float], log: Log, spec: Mapping[str, Any]
) -> None:
    at, name = run.at, run.plan.select
    if name not in metrics:
        raise Refusal(
            f"select is {short(name)}; it must be a metric that validation gives; "
            f"{nearest(name, metrics)}"
        )
    if not math.isfinite(metrics[name]):
        raise Refusal(_diverged(f"the validation metric {name} is {metrics[name]} after", at.step))
    log.add({**_line("epoch", at), "loss": at.loss / at.seen, "validation": metrics})
    at.epoch, at.loss, at.seen = at.epoch + 1, 0.0, 0
    value = -metrics[name] if name.endswith("loss") else metrics[name]
    if value > at.best:
        at.best, at.best_epoch = value, at.epoch
        with averaged(run.model, run.average):
            save_model(run.path.parent, run.model, spec)


def _line(kind: str, at: _Counters) -> dict[str, Any]:
    return {"kind": kind, "step": at.step, "epoch": at.epoch + 1}


def _diverged(what: str, step: int) -> str:
    return (
        f"{what} step {step}; training needs finite numbers; lower optimizer.lr, set clip, "
        "or use precision float32 in a new run; what was saved before is kept"
    )


def _start(model: nn.Module, plan: Plan, path: Path, name: str, hold: Hold | None) -> _Run:
    optimizer = descent(plan.optimizer, [p for p in model.parameters() if p.requires_grad])
    device = optimizer.param_groups[0]["params"][0].device
    scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "float16")
    average = Average(model, plan.average) if plan.average > 0 else None
    run = _Run(model, optimizer, scaler, plan, path, name, average, hold)
    run.restore()
    if hold is not None:
        hold(model, optimizer, run.at.step)
    if run.average is not None and run.at.step == 0:
        run.average = Average(model, plan.average)  # begins at what is held
    return run


def _check(model: nn.Module, samples: Samples, plan: Plan, device: torch.device) -> None:
    if len(samples) == 0:
        raise Refusal("there are 0 samples to train on; at least 1 is needed; give another split")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise Refusal(
            f"{type(model).__name__} has no weight that requires a gradient; training needs one; "
            "call requires_grad_() on what should learn"
        )
    half = plan.precision == "float16" and device.type != "cuda"
    if half or (plan.precision != "float32" and not torch.amp.is_autocast_available(device.type)):
        raise Refusal(
            f"precision is {plan.precision} and the device is {device.type}; float16 needs a CUDA "
            "device; use precision bfloat16 or float32"
        )


@contextmanager
def _holding_the_mean(run: _Run) -> Iterator[None]:
    """Lets the model hold the mean of its weights, which an interruption must not take for them."""
    if run.average is None:
        yield
        return
    run.save()
    run.between_steps = False
    with averaged(run.model, run.average):
        yield
    run.between_steps = True


@contextmanager
def _uninterrupted(run: _Run) -> Iterator[None]:
    """Holds Ctrl-C back until the block is done: half a step could not be resumed exactly."""
    pressed: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number)) if main else 0
    run.between_steps = False
    try:
        yield
        run.between_steps = True
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
