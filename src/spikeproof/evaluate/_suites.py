"""The suites that have a name, for images: fixed numbers, from the cheap to the expensive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from spikeproof.attacks import (
    APGD,
    CE,
    FAB,
    FGSM,
    L0,
    PGD,
    SAPGD,
    Attack,
    Ball,
    HopSkipJump,
    Linf,
    Margin,
    RandomSearch,
    RelaxedLinf,
    Search,
    SparseSearch,
    Square,
    StepCE,
    TargetedDLR,
    Threat,
)
from spikeproof.errors import Refusal, nearest
from spikeproof.evaluate._event_suites import event_steps
from spikeproof.evaluate._suite import Step, Suite, before_audits, ratio
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    CBA,
    HART,
    PDSG,
    RGA,
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Rule,
    SpikingNetwork,
    StraightThrough,
    Triangle,
    over_time,
)

TIERS = ("smoke", "standard", "full")
NAMES = (*TIERS, "ensemble19")
Gradient = Rule | CBA | None

PRIMARY = {f"assg-{a:g}": ASSG(vanishing=2 * a) for a in (0.425, 0.41, 0.435, 0.45)}
BEST = ("assg-0.425", "own", "assg-triangle")  # chosen beforehand: no test sample has a say
REGISTRY: dict[str, Gradient] = {
    "own": None,
    **{f"atan-{a:g}": BPTT(ATan(a)) for a in (4.0, 10.0, 16.0)},
    **{f"triangle-{g:g}": BPTT(Triangle(g)) for g in (0.5, 1.0, 2.0)},
    **{f"rectangle-{w:g}": BPTT(Rectangle(w)) for w in (0.5, 2.0)},
    **{f"hart-{g:g}": HART(Triangle(g)) for g in (0.25, 0.5, 1.0, 2.0)},
    "pdsg": PDSG(),
    "rga": RGA(),
    "bptr": BPTR(),
    "cba-relu": CBA(),
    "cba-clip-floor": CBA("clip_floor"),
    "assg-triangle": ASSG(Triangle(1.0)),
    "assg-gaussian": ASSG(Gaussian()),
    "assg-through-reset": ASSG(detach_reset=False),
    "atan-4-detached": BPTT(ATan(4.0), detach_reset=True),
    "triangle-1-detached": BPTT(Triangle(1.0), detach_reset=True),
    "rectangle-0.5-detached": BPTT(Rectangle(0.5), detach_reset=True),
    "straight-through": BPTT(StraightThrough()),
}
ENSEMBLE: dict[str, Gradient] = {
    **{f"triangle-{g:g}": BPTT(Triangle(g)) for g in (1.0, 2.0, 3.0, 0.5, 0.25)},
    **{f"exp-d-{b:g}": BPTT(Exponential(0.3, b)) for b in (0.5, 1.0, 2.0)},
    **{f"exp-{b:g}": BPTT(Exponential(1.0, b)) for b in (0.5, 1.0, 2.0)},
    **{f"rectangle-{w:g}": BPTT(Rectangle(w)) for w in (0.25, 0.5, 1.0, 2.0, 4.0)},
    "straight-through": BPTT(StraightThrough()),
    "bptr": BPTR(),
    "cba-relu": CBA(),
}
EPSILONS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # times the budget


def named_suite(
    name: str, threat: Threat, classes: int, shape: tuple[int, ...], *, draws: int = 1
) -> Suite:
    """Returns the suite of this name for a threat, a number of classes and a shape of samples.

    ``draws`` is what each gradient is averaged over where the model draws noise. Steps whose
    search cannot move within the threat are left out. Frames under ``RelaxedLinf`` meet what
    images meet, in steps E8 of a suite that is called relaxed.
    """
    if name not in NAMES:
        raise Refusal(f"{name!r} is no suite; {nearest(name, NAMES)}")
    if name == "ensemble19":
        other = isinstance(threat, Ball) and not isinstance(threat, PGD.fits)
        return ensemble19(_main(threat, 10) if other else PGD(10), draws=draws)
    if isinstance(threat, Ball):
        steps = _image_steps(name, threat, classes, timed=len(shape) != 4)
        more = [*_noise(threat, draws)] if draws > 1 and name != "smoke" else []
    else:
        steps, more = event_steps(name, threat), []
    chosen = [_drawing(step, draws) for step in steps if _fits(step, threat)]
    fitting = before_audits(chosen, more)
    if not fitting:
        raise Refusal(f"{name} has no step for the threat {threat}; write a suite of your own")
    kind = "events" if len(shape) == 4 else "images"
    if isinstance(threat, RelaxedLinf):
        kind = f"relaxed-{kind}"
        fitting = tuple(replace(step, id=f"E8-{step.id.partition('-')[2]}") for step in fitting)
    return Suite(f"{name}-{kind}", fitting)


def ensemble19(search: Search | None = None, *, draws: int = 1) -> Suite:
    """Returns paper B's 19 gradients in their order, each under the same search (PGD-10)."""
    search = search or PGD(10)
    steps = [
        Step(f"{number:02d}-{name}", Attack(search, rule=rule, draws=draws))
        for number, (name, rule) in enumerate(ENSEMBLE.items(), 1)
    ]
    return Suite(f"ensemble19-{search.kind}", tuple(steps))


def half_time(model: nn.Module) -> nn.Module:
    """Returns a view of the model that runs half its steps."""
    return _timed(model, 0.5)


def double_time(model: nn.Module) -> nn.Module:
    """Returns a view of the model that runs twice its steps."""
    return _timed(model, 2.0)


def _timed(model: nn.Module, factor: float) -> nn.Module:
    if not isinstance(model, SpikingNetwork) or model.encode.encoder.events:
        raise Refusal(
            f"the number of steps of {type(model).__name__} cannot be changed; only a "
            "SpikingNetwork of images has an encoder that can run longer; leave this step out"
        )
    return over_time(model, max(1, round(model.encode.T * factor)))


def _image_steps(name: str, ball: Ball, classes: int, *, timed: bool) -> Iterable[Step]:
    yield from _baselines(ball)
    primary = dict(list(PRIMARY.items())[: 1 if name == "smoke" else None])
    for rule_name, rule in primary.items():
        yield Step(f"S4-{_main(ball).kind}-{rule_name}", Attack(_main(ball), rule=rule))
    if name == "smoke":
        return
    yield from _gradients(classes)
    yield Step("S8-square-5000", Attack(Square(5000), Margin()))
    for loss in (CE(), Margin()):  # the same again from other starts: C19
        again = Attack(_main(ball), loss, PRIMARY["assg-0.425"], restarts=3)
        yield Step(f"S11-{again.search.kind}-{loss.kind}-restarts-3", again)
    for make in (half_time, double_time) if timed else ():
        yield Step(f"S10-{make.__name__}", Attack(APGD(100), ratio(classes)), source=make)
    if name == "full":
        yield from _audit(ball, classes)
    yield from _curve(ball)


def _baselines(ball: Ball) -> Iterable[Step]:
    yield Step("S1-random", Attack(RandomSearch(100)), everyone=True)
    for name in ("own", "atan-4", "rga", "bptr"):
        yield Step(f"S2-fgsm-{name}", Attack(FGSM(), rule=REGISTRY[name]), everyone=True)
    # the step sizes of the literature, 2.55/255 and 2/255 at a budget of 8/255
    yield Step("S3-pgd-7", Attack(PGD(7, 2.55 / 8 * ball.eps)), everyone=True)
    yield Step("S3-pgd-10", Attack(PGD(10, 2 / 8 * ball.eps)), everyone=True)


def _gradients(classes: int) -> Iterable[Step]:
    known: dict[str, Gradient] = PRIMARY | REGISTRY
    best, loss = {name: known[name] for name in BEST}, ratio(classes)
    for name, rule in REGISTRY.items():
        yield Step(f"S5-apgd-ce-50-{name}", Attack(APGD(50), CE(), rule))
        yield Step(f"S5-sparse-ce-50-{name}", Attack(SparseSearch(50), CE(), rule))
    for name, rule in best.items():
        yield Step(f"S5-apgd-ce-100-{name}", Attack(APGD(100), CE(), rule))
        yield Step(f"S5-apgd-{loss.kind}-100-{name}", Attack(APGD(100), loss, rule))
        yield Step(f"S5-sparse-margin-100-{name}", Attack(SparseSearch(100), Margin(), rule))
    for name, rule in best.items() if classes > 2 else ():  # of two, every error is targeted
        targeted = APGD(100, targets=_targets(classes))
        yield Step(f"S6-apgd-t-{name}", Attack(targeted, TargetedDLR(), rule))
    yield Step("S7-fab-assg-0.425", Attack(FAB(100), Margin(), PRIMARY["assg-0.425"]))


def _targets(classes: int) -> int:
    return min(9, classes - 1)


def _noise(ball: Ball, draws: int) -> Iterable[Step]:
    """Yields twice the draws for those that stand, and the curve over draws: does it pay?"""
    for name in BEST:
        twice = Attack(_main(ball), rule=(PRIMARY | REGISTRY)[name], draws=2 * draws)
        yield Step(f"S12-{twice.search.kind}-{name}-draws-{2 * draws}", twice)
    for number in (1, draws, 2 * draws):
        attack = Attack(_main(ball), rule=PRIMARY["assg-0.425"], draws=number)
        yield Step(f"S12-draws-{number}", attack, limit=256, threat=ball)


def _audit(ball: Ball, classes: int) -> Iterable[Step]:
    rule = PRIMARY["assg-0.425"]
    # The first samples of the manifest, of which those that stand are attacked: about 200 and 500
    # of a network that keeps a third.
    if classes > 2:
        targeted = Attack(FAB(100, targets=_targets(classes)), TargetedDLR(), rule)
        yield Step("S7-fab-t-assg-0.425", targeted)
    yield Step("S9-hop-skip-jump", Attack(HopSkipJump(10_000), Margin()), limit=600)
    search = _main(ball, 1000)
    for loss in (CE(), Margin(), StepCE()):
        attack = Attack(search, loss, rule, restarts=5)
        yield Step(f"S11-{search.kind}-1000-{loss.kind}", attack, limit=1500)


def _curve(ball: Any) -> Iterable[Step]:
    attack = Attack(_main(ball), rule=PRIMARY["assg-0.425"])
    budgets = {ball.eps * factor for factor in EPSILONS}
    span = ball.high - ball.low
    if isinstance(ball, Linf):
        budgets = {eps for eps in budgets if eps <= span} | {span / 2, span}
    if isinstance(ball, RelaxedLinf) and span >= 1:
        budgets |= {1.0}  # one event
    if isinstance(ball, L0):
        budgets = {float(round(eps)) for eps in budgets if eps >= 1}
    for name, eps in {f"{eps:.4g}": eps for eps in sorted(budgets)}.items():
        yield Step(f"S13-eps-{name}", attack, limit=256, threat=replace(ball, eps=eps))


def _main(ball: Threat, steps: int = 100) -> Search:
    """The primary search: the clip rule of SA-PGD is made for Linf, other norms take APGD."""
    if isinstance(ball, SAPGD.fits):
        return SAPGD(steps)
    if isinstance(ball, APGD.fits):
        return APGD(steps)
    return SparseSearch(steps) if isinstance(ball, SparseSearch.fits) else PGD(steps)


def _fits(step: Step, threat: Threat) -> bool:
    if not isinstance(step.attack, Attack):
        return True
    return isinstance(step.threat or threat, step.attack.search.fits)


def _drawing(step: Step, draws: int) -> Step:
    attack = step.attack
    if draws == 1 or not isinstance(attack, Attack) or attack.search.blind:
        return step
    return replace(step, attack=replace(attack, draws=draws))
