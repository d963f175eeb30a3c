"""Measurements of a model: does it answer like one, and can its gradient be believed?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof import seeding
from spikeproof.attacks import CE, Threat, Victim, correct, under_attack
from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import LIMITS, decide, draws, skip, worst_of
from spikeproof.evaluate._record import Check
from spikeproof.evaluate._trials import (
    SHORT,
    NormBall,
    Through,
    differences,
    in_balls,
    named,
    rough,
    silent,
)
from spikeproof.spiking import (
    ASSG,
    BPTT,
    HART,
    Memory,
    Rule,
    Spiking,
    Surrogate,
    Trace,
    forget,
    keep_samples,
    seen_through,
)

SAMPLES = 64
REPEATS = 5  # forwards of one batch (AutoAttack)
SATURATED = 87.0  # exp(-88) is no normal number of fp32: the cross entropy's slope is gone
STEPS = 100  # of a walk uphill
LAST = 10  # of them at its end
ANSWERS = frozenset(("C1", "C2", "C3", "C4", "C20"))  # told without a gradient
NEARBY = ("C9", "C21", "C22", "C23")  # told of the neighbourhood of an input


def probe(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    rules: Sequence[Through] | None = None,
    only: Collection[str] = tuple(LIMITS),
    seed: int = 0,
) -> tuple[Check, ...]:
    """Returns C1..C30 as far as a model and 64 samples can tell; the rest are "na".

    ``rules`` are the gradients that the evaluation follows; by default the model's own, and that
    of ASSG where it has neurons of ours. ``only`` are the checks worth their time. The model is
    left as it was found. Short attacks (C5, C9 to C14, C17, C21 to C25) are made under Linf, L2
    and L1.
    """
    if rules is None:
        ours = any(isinstance(module, Spiking) for module in model.modules())
        rules = (None, ASSG()) if ours else (None,)
    x, y = x[:SAMPLES].detach().float(), y[:SAMPLES]
    if not len(x):
        raise Refusal("no samples to probe with; a model is judged by what it does; give 64")
    with under_attack(model), _noise_of(model, x.device, seed):
        noisy, checks = _answers(model, x, y)
        ball = threat if isinstance(threat, NormBall) else None
        noise = _uniform(x, seed)
        checks += [draws({}, noisy, len(x)), _finite(model, x, ball, noise)]
        if ANSWERS.issuperset(only):
            return worst_of(checks)
        try:
            walks = [_walk(Victim(model, rule), x, y, ball, noise) for rule in rules]
        except Refusal as refusal:
            return worst_of([*checks, decide("C6", 1.0, str(refusal))])
        checks += [*_gradients(rules, walks), _vanishing(model, x, rules)]
        if not ball:
            reason = f"short attacks are made in norm balls, and {threat} is none"
            return worst_of(checks, [skip(id, reason) for id in (*SHORT, *NEARBY)])
        best = min(zip(walks, rules, strict=True), key=lambda pair: pair[0].zero)[1]
        checks += in_balls(model, x, y, ball, rules=rules, best=best, noisy=noisy, only=only)
        checks.append(_complete(walks))
        if noisy:
            reason = "the answers to one input differ by themselves"
            checks += [skip("C5", reason), skip("C25", reason)]
        if "C21" in only:
            checks.append(rough(model, x, y, ball, seed))
        if "C9" in only:
            checks.append(differences(model, x, y, ball, rules, seed))
        if "C23" in only:
            checks.append(silent(model, x, y, ball))
    return worst_of(checks)


def _uniform(x: Tensor, seed: int) -> Tensor:
    """Returns two numbers in [0, 1) for every value, as ``Threat.random`` asks for at most."""
    noise = torch.rand((len(x), 2, *x.shape[1:]), generator=seeding.generator(seed, "probe"))
    return noise.to(x)


def _start(x: Tensor, ball: NormBall, noise: Tensor) -> Tensor:
    return ball.random(x, lambda shape: noise if len(shape) == x.dim() else noise[:, 0])


@contextmanager
def _noise_of(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Seeds whatever the model may draw from, and gives all of it back as it was."""
    sources = [torch.default_generator]
    if device.type == "cuda":
        sources.append(torch.cuda.default_generators[device.index or 0])
    for module in model.modules():
        sources += [value for value in vars(module).values() if isinstance(value, torch.Generator)]
    states = [source.get_state() for source in sources]
    try:
        for source in sources:
            source.manual_seed(seeding.derive(seed, "model"))
        yield
    finally:
        for source, state in zip(sources, states, strict=True):
            source.set_state(state)


def _answers(model: nn.Module, x: Tensor, y: Tensor) -> tuple[bool, list[Check]]:
    with torch.no_grad():
        outputs = [model(x) for _ in range(REPEATS)]
        first = outputs[0]
        scale = float(first.nan_to_num().abs().max()) or 1.0
        apart = max(_apart(first, other) for other in outputs) / scale
        accuracies = {float(correct(logits, y).double().mean()) for logits in outputs}
        detail = f"{REPEATS} forward passes differ by {apart:.2g} of the largest logit"
        value = apart if len(accuracies) == 1 else max(apart, 1.0)
        determinism = decide("C1", value, detail)
        differs = determinism.verdict != "pass"
        leak = _leak(model, x, differs=differs) / scale
    noisy = differs and leak <= LIMITS["C2"].most
    detail = f"the same samples in other company differ by {leak:.2g} of the largest logit"
    return noisy, [determinism, decide("C2", leak, detail), _logits(first)]


def _leak(model: nn.Module, x: Tensor, *, differs: bool) -> float:
    """Returns by how much a sample's logits depend on what came before or beside it.

    Noise is the same at every call here, so that what differs is memory. One spike that rounding
    flips is no dependence on the batch, so the median sample counts there.
    """

    def ask(inputs: Tensor) -> Tensor:
        with _noise_of(model, x.device, 1):
            return model(inputs)

    first = ask(x)
    ask(torch.zeros_like(x))
    leak = _apart(first, ask(x))
    if differs:
        return leak
    turned = ask(x.flip(0)).flip(0)
    alone = torch.cat([ask(row[None]) for row in x[:8]])
    rows = [(turned - first).abs().amax(1), (alone - first[:8]).abs().amax(1)]
    return max([leak, *(float(row.nan_to_num(torch.inf).median()) for row in rows)])


def _apart(a: Tensor, b: Tensor) -> float:
    # NaN in both is the same answer; in one of them it is another one
    same = (a == b) | (a.isnan() & b.isnan())
    return float(torch.where(same, 0.0, (a - b).abs().nan_to_num(torch.inf)).max())


def _logits(logits: Tensor) -> Check:
    top = logits.topk(2, dim=1).values
    tied = float((top[:, 0] == top[:, 1]).double().mean())
    steep = float((top[:, 0] - top[:, 1] > SATURATED).double().mean())
    sums = logits.sum(1)
    total = float(sums.median())
    even = bool((sums - total).abs().max() <= 1e-4 * abs(total))
    shares = bool((logits >= 0).all()) and even and total > 0
    detail = f"{tied:.1%} tied at the top, {steep:.1%} saturate the cross entropy; range "
    detail += f"{float(logits.min()):.3g}..{float(logits.max()):.3g}"
    detail += f"; every row is positive and sums to {total:.4g}, as probabilities do" * shares
    return decide("C3", max(tied, steep, float(shares)), detail)


def _finite(model: nn.Module, x: Tensor, ball: NormBall | None, noise: Tensor) -> Check:
    """Asks at random admissible inputs, too: a guard that answers NaN hides there."""
    points = {"clean": x} | ({"random": _start(x, ball, noise)} if ball else {})
    with torch.no_grad():
        bad = {name: int((~model(at).isfinite().all(1)).sum()) for name, at in points.items()}
    shown = ", ".join(f"{count} {name}" for name, count in bad.items())
    return decide("C4", sum(bad.values()), f"inputs with logits that are not finite: {shown}")


@dataclass(frozen=True, eq=False)
class _Walk:
    """A hundred steps uphill; shares are of the samples right when clean, or still standing."""

    missing: float  # gradients that are not finite
    zero: float  # the worst of clean input, start and end
    shown: str
    flat: float  # how much of the climb the last iterations still make, of those that stand


def _walk(victim: Victim, x: Tensor, y: Tensor, ball: NormBall | None, noise: Tensor) -> _Walk:
    right = correct(victim.logits(x), y)
    if bool(right.any()):
        x, y, noise = x[right], y[right], noise[right]

    def climb(at: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, losses, gradient = victim.gradient(
            at, lambda logits: CE()(logits, y, y), per_step=False
        )
        return correct(logits, y), losses, gradient

    forget(victim.source)
    gradients = {"clean": climb(x, y)[2]}
    history = x.new_zeros(0, len(x))
    if ball:
        at = _start(x, ball, noise)
        for step in range(STEPS if len(x) else 0):
            stands, losses, gradient = climb(at, y)
            if step == 0:
                gradients["start"] = gradient
            move = 2.5 * ball.eps / STEPS * ball.steepest(gradient.nan_to_num(0, 0, 0))
            at, x, y = (ball.project(at + move, x)[stands], x[stands], y[stands])
            history = torch.cat([history, losses[None]])[:, stands]
            gradients["end"] = gradient[stands]
            keep_samples(victim.source, stands.nonzero().squeeze(1))
            if not len(x):
                break
    missing = max(_share(~g.flatten(1).isfinite().all(1)) for g in gradients.values())
    zero = {name: _share(g.flatten(1).eq(0).all(1)) for name, g in gradients.items()}
    shown = ", ".join(f"{share:.1%} {name}" for name, share in zero.items())
    return _Walk(missing, max(zero.values()), shown, _flat(history))


def _share(bits: Tensor) -> float:
    return float(bits.double().mean()) if len(bits) else 0.0


def _flat(history: Tensor) -> float:
    if not history.numel():
        return 0.0
    best = history.cummax(0).values
    climb = (best[-1] - best[0]).clamp_min(1e-12)
    return float(((best[-1] - best[-LAST - 1]) / climb).mean())


def _gradients(rules: Sequence[Through], walks: Sequence[_Walk]) -> list[Check]:
    shown = "; ".join(f"{named(r)}: {w.shown}" for r, w in zip(rules, walks, strict=True))
    missing = min(walk.missing for walk in walks)
    return [
        decide("C6", missing, f"{missing:.1%} of samples get a gradient that is not finite"),
        decide("C7", min(walk.zero for walk in walks), f"gradients of zero: {shown}"),
    ]


def _complete(walks: Sequence[_Walk]) -> Check:
    value = min(walk.flat for walk in walks)
    detail = f"{value:.1%} of the loss's climb in the last {LAST} of {STEPS} steps"
    return decide("C22", value, detail)


@dataclass(frozen=True)
class _Watching(Rule):
    """The gradient of BPTT, and a note of every layer's distances from the threshold."""

    notes: list[Tensor] = field(default_factory=list)

    @override
    def slopes(self, trace: Trace, memory: Memory | None) -> Tensor:
        self.notes.append(trace.distance)
        return torch.zeros_like(trace.membrane)


def _vanishing(model: nn.Module, x: Tensor, rules: Sequence[Through]) -> Check:
    own = [layer.rule for layer in model.modules() if isinstance(layer, Spiking)]
    used = [own[0] if rule is None and own else rule for rule in rules]
    degrees = {named(rule): rule.vanishing for rule in used if isinstance(rule, ASSG)}
    curves = {named(rule): rule.surrogate for rule in used if isinstance(rule, BPTT | HART)}
    if curves:
        watch = _Watching()
        with torch.enable_grad():
            seen_through(model, watch)(x.clone().requires_grad_())
        for name, curve in curves.items() if watch.notes else ():
            degrees[name] = max(_degree(curve, u) for u in watch.notes)
    if not degrees:
        return skip("C8", "no gradient in use has a surrogate of spikeproof's neurons")
    shown = ", ".join(f"{name} {degree:.2f}" for name, degree in degrees.items())
    return decide("C8", min(degrees.values()), f"largest mean over a layer: {shown}")


def _degree(curve: Surrogate, u: Tensor) -> float:
    """Returns the mean share of the curve's mass that lies nearer to the threshold than ``u``."""
    far = torch.tensor(1e9, dtype=torch.float64)
    whole = curve.primitive(far) - curve.primitive(-far)
    near = curve.primitive(u.abs().double()) - curve.primitive(-u.abs().double())
    return float((near / whole).mean())
