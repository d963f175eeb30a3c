"""Short attacks on a few samples: what a gradient finds, and what is found without it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.attacks import (
    CE,
    FGSM,
    L1,
    L2,
    PGD,
    Attack,
    Linf,
    Margin,
    Outcome,
    RandomSearch,
    Search,
    Square,
    Threat,
    Victim,
    correct,
    margins,
    run,
)
from spikeproof.evaluate._checks import check_steps, decide, skip
from spikeproof.evaluate._judge import judge
from spikeproof.evaluate._record import Check
from spikeproof.evaluate._roles import Roles
from spikeproof.spiking import CBA, Rule, seen_through
from spikeproof.statistics import wilson

Through = Rule | CBA | None
NormBall = Linf | L2 | L1

FEW = 16  # samples whose gradient is compared in many directions
DIRECTIONS = 64
SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the budget: {1, 2, 4}/255 under 8/255
NEIGHBOURS = 100
RADIUS = 8 / 255  # of the loss's neighbourhood, in units of the input range
LEVELS = 255  # of an 8-bit image
ITERATIONS = (10, 20, 40)
QUERIES = 300
DRAWS = 100
BUDGETS = (0.0, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # times eps: 0..64/255 around 8/255
OTHER_BATCH = 7
SHOWN = 8  # samples attacked one by one
SHORT = ("C5", "C10", "C11", "C12", "C13", "C14", "C17", "C25")  # told by short attacks


def named(rule: Through) -> str:
    """Returns what a reader calls a gradient rule."""
    return "own gradient" if rule is None else re.sub(r",? ?kind='\w+'", "", str(rule))


def in_balls(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: NormBall,
    *,
    rules: Sequence[Through],
    best: Through,
    noisy: bool,
    only: Collection[str] = SHORT,
) -> list[Check]:
    """Returns what short attacks say: those of C5, C10 to C14, C17 and C25 that are asked for."""
    trials = _Trials(model, x, y)
    whole = _whole(ball, x)
    sizes = [*sorted(b * ball.eps for b in BUDGETS if b * ball.eps < whole / 2), whole / 2, whole]
    checks = []
    if not {"C5", "C11", "C12", "C13", "C14", "C17", "C25"}.isdisjoint(only):
        checks += _climbs(trials, ball, rules, best, {e: f"eps-{e}" for e in sizes}, only, noisy)
    if "C10" in only:
        checks += [
            _single_steps(trials, replace(ball, eps=e), best) for e in sizes if e >= ball.eps
        ]
    return checks


def _climbs(
    trials: _Trials,
    ball: NormBall,
    rules: Sequence[Through],
    best: Through,
    eps: Mapping[float, str],
    only: Collection[str],
    noisy: bool,  # noqa: FBT001
) -> list[Check]:
    bits: dict[str, Tensor] = {}
    outcomes = []
    for rule in rules:
        outcomes.append(trials.run(FGSM(), rule, ball))
        outcomes.append(trials.run(PGD(ITERATIONS[-1]), rule, ball))
    for number, outcome in enumerate(outcomes):
        bits[f"white-{number}"] = trials.stands(outcome)
    white = tuple(bits)
    steps = {}
    for count in ITERATIONS:
        outcomes.append(trials.run(PGD(count), best, ball))
        steps[count] = f"pgd-{count}"
        bits[steps[count]] = trials.stands(outcomes[-1])
    curve = {} if {"C12", "C13"}.isdisjoint(only) else eps
    for size, id in curve.items():
        outcome = trials.run(PGD(ITERATIONS[0]), best, replace(ball, eps=size))
        bits[id] = trials.stands(outcome)
    white += tuple(steps.values())
    left = torch.stack([bits[id] for id in white]).all(0)
    asked = (("square", "C14", Square(QUERIES)), ("random", "C17", RandomSearch(DRAWS)))
    for id, check, search in asked:
        fits = isinstance(ball, search.fits) and bool(left.any()) and check in only
        bits[id] = trials.stands(trials.run(search, None, ball, left)) if fits else left
    roles = Roles(white=white, square=("square",), random=("random",), steps=steps, eps=curve)
    whole = _whole(ball, trials.x)
    checks = [
        check
        for check in check_steps(bits, roles, classes=trials.classes, unbounded=whole)
        if check.id in only and check.id not in ("C10", "C20")  # C10 asks at equal queries
    ]
    if not noisy and "C5" in only:
        checks.append(_recheck(trials, ball, outcomes))
    if not noisy and "C25" in only:
        checks.append(_eight_bits(trials, ball, best, bits[steps[ITERATIONS[-1]]]))
    return checks


class _Trials:
    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        self.model, self.x, self.y = model, x, y
        with torch.no_grad():
            logits = model(x)
        self.clean, self.classes = correct(logits, y), logits.shape[1]

    def run(
        self, search: Search, rule: Through, threat: Threat, of: Tensor | None = None
    ) -> Outcome:
        """Returns what a search claims of the samples ``of``; all others stand."""
        rows = torch.arange(len(self.y), device=self.y.device)
        rows = rows if of is None else rows[of]
        attack = Attack(search, Margin() if search.blind else CE(), rule)
        part = run(attack, self.model, self.x[rows], self.y[rows], threat, ids=rows)
        zeros = torch.zeros_like(self.y)
        return Outcome(
            self.x.index_put((rows,), part.x_adv),
            (zeros > 0).index_put((rows,), part.fallen),
            *(
                zeros.index_put((rows,), counted)
                for counted in (part.at, part.forwards, part.backwards)
            ),
        )

    def stands(self, outcome: Outcome) -> Tensor:
        return self.clean & ~outcome.fallen


def _single_steps(trials: _Trials, ball: NormBall, rule: Through) -> Check:
    """Compares noise, one step and ten, the first two at two queries each."""
    searches = {"random": RandomSearch(2), "single": FGSM(), "iterative": PGD(ITERATIONS[0])}
    bits = {id: trials.stands(trials.run(search, rule, ball)) for id, search in searches.items()}
    roles = Roles(random=("random",), single=("single",), iterative=("single", "iterative"))
    (check,) = (c for c in check_steps(bits, roles, classes=trials.classes) if c.id == "C10")
    return replace(check, detail=f"at eps {ball.eps:.3g} {check.detail}")


def _recheck(trials: _Trials, ball: NormBall, outcomes: Sequence[Outcome]) -> Check:
    wrong = 0
    for outcome in outcomes:
        rows = outcome.fallen.nonzero().squeeze(1)
        x_adv, x, y = outcome.x_adv[rows], trials.x[rows], trials.y[rows]
        wrong += int((~judge(trials.model, x_adv, x, y, ball, batch=OTHER_BATCH).broken).sum())
    return decide("C5", wrong, f"{wrong} claims of short attacks do not hold at another batch size")


class _Rounded(nn.Module):
    """The model behind an 8-bit camera."""

    def __init__(self, model: nn.Module, ball: NormBall) -> None:
        super().__init__()
        self.model, self.low, self.unit = model, ball.low, (ball.high - ball.low) / LEVELS

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.low + ((x - self.low) / self.unit).round() * self.unit)


def _eight_bits(trials: _Trials, ball: NormBall, rule: Through, stands: Tensor) -> Check:
    """Attacks once more, where only what is wrong after rounding counts."""
    rows = torch.arange(len(trials.y), device=trials.y.device)
    source = trials.model if rule is None else seen_through(trials.model, rule)
    behind, attack = _Rounded(trials.model, ball).eval(), Attack(PGD(ITERATIONS[-1]))
    outcome = run(attack, behind, trials.x, trials.y, ball, ids=rows, source=source)
    rounded = float(trials.stands(outcome).double().mean())
    plain = float(stands.double().mean())
    detail = f"{plain:.1%} stand, {rounded:.1%} where inputs are rounded to 8 bits"
    return decide("C25", abs(rounded - plain), detail, samples=len(trials.y))


def _whole(ball: NormBall, x: Tensor) -> float:
    size, span = x[0].numel(), ball.high - ball.low
    return span * {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[ball.kind]


def differences(
    model: nn.Module, x: Tensor, y: Tensor, ball: NormBall, rules: Sequence[Through], seed: int
) -> Check:
    """Returns C9: do gradients and differences of the loss agree on what is uphill?

    The 95 % bound below the share of random directions in which they do; the value is what is
    missing to 1. Directions in which the loss does not change say nothing.
    """
    x, y = x[:FEW], y[:FEW]
    noise = torch.rand((DIRECTIONS, *x.shape), generator=seeding.generator(seed, "C9")).to(x)
    gradients = [_gradient(Victim(model, rule), x, y) for rule in rules]
    agreed, asked = [0] * len(rules), 0
    for move in (ball.steepest(row - 0.5) for row in noise):
        slopes = [(gradient * move).flatten(1).sum(1).sign() for gradient in gradients]
        for step in (share * ball.eps * move for share in SHARES):
            rise = (_loss(model, x + step, y) - _loss(model, x - step, y)).sign()
            told = rise != 0
            asked += int(told.sum())
            for i, slope in enumerate(slopes):
                agreed[i] += int((told & (rise == slope)).sum())
    if not asked:
        return skip("C9", "the loss is the same in all directions")
    lower = [wilson(hits, asked)[0] for hits in agreed]
    shown = ", ".join(
        f"{named(rule)} {hits / asked:.1%}" for rule, hits in zip(rules, agreed, strict=True)
    )
    return decide("C9", 1 - max(lower), f"agreement in {asked} directions: {shown}")


def _gradient(victim: Victim, x: Tensor, y: Tensor) -> Tensor:
    _, _, gradient = victim.gradient(x, lambda logits: CE()(logits, y, y), per_step=False)
    return gradient


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return CE()(model(x), y, y)


def rough(model: nn.Module, x: Tensor, y: Tensor, ball: NormBall, seed: int) -> Check:
    """Returns C21: how far the median sample's margin is from a tangent plane, close by.

    Measured between opposite neighbours and relative to the margin. A slope is no noise: a linear
    model has none. The cross entropy would not do, whose relative changes have no bound where a
    network is sure.
    """
    noise = torch.rand((NEIGHBOURS // 2, *x.shape), generator=seeding.generator(seed, "C21"))
    radius = RADIUS * (ball.high - ball.low)
    moves = radius * (2 * noise.to(x) - 1)
    with torch.no_grad():
        here = margins(model(x), y)
        ends = torch.stack([margins(model(x + d), y) for d in (*moves, *-moves)])
    bend = _relative(ends.unflatten(0, (2, -1)).mean(0), here).mean(0).median()
    whole = float(_relative(ends, here).mean())
    value = float(bend)
    detail = f"the margin bends by {value:.1%} and changes by {whole:.1%} within {radius:.3g}"
    return decide("C21", value, detail)


def _relative(ends: Tensor, here: Tensor) -> Tensor:
    change = (ends - here).abs() / here.abs().clamp_min(1e-12)
    return change.clamp_max(1).nan_to_num(1)


def silent(model: nn.Module, x: Tensor, y: Tensor, ball: NormBall) -> Check:
    """Returns C23: iterates that fooled the model, admissibly, and were not returned."""
    attack = Attack(PGD(ITERATIONS[0]))
    lost = 0
    for i in range(min(SHOWN, len(x))):
        witness = _Witness(x[i : i + 1], y[i : i + 1], ball)
        hook = model.register_forward_hook(witness)
        try:
            outcome = run(attack, model, witness.x, witness.y, ball, ids=torch.tensor([i]))
        finally:
            hook.remove()
        lost += witness.fooled and not bool(outcome.fallen)
    return decide("C23", lost, f"{lost} successful iterates were not returned")


class _Witness:
    """Looks over the shoulder of an attack on one sample."""

    def __init__(self, x: Tensor, y: Tensor, ball: NormBall) -> None:
        self.x, self.y, self.ball, self.fooled = x, y, ball, False

    def __call__(self, _: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        at = inputs[0].detach()  # of one sample, though it may lie there twice
        wrong = ~correct(logits.detach(), self.y.expand(len(at))) & self.ball.admits(at, self.x)
        self.fooled |= bool(wrong.any())
