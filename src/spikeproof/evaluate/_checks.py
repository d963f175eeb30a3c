"""The rules of doubt: from measurements to verdicts.

Every check C1..C30 is in ``LIMITS``; ``docs/flags.md`` has a paragraph on each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from spikeproof.errors import Refusal, nearest
from spikeproof.evaluate._record import Check
from spikeproof.evaluate._roles import Roles
from spikeproof.statistics import wilson

POINT = 0.01
NOISE = 0.5 * POINT  # or half of Wilson's interval, whichever is larger
GONE = 1 * POINT  # of samples standing against an unbounded budget
ABOVE_CHANCE = 2 * POINT
ROUNDING = 1e-9  # 1/3 - 2/3 + 1/3 is no sample
NOBODY = "not part of this evaluation"
NONE_RIGHT = "no sample of the curve is right, so none can fall"
SEVERITY = ("na", "pass", "flag", "fail")


@dataclass(frozen=True)
class Limit:
    """A measure passes up to ``most`` and else gets ``beyond``; above ``fatal`` it fails.

    ``counted`` shares are of samples: their limit is never finer than one sample. Below ``open``
    limits the value itself must lie.
    """

    name: str
    most: float
    beyond: Literal["flag", "fail"] = "flag"
    fatal: float = math.inf
    counted: bool = False
    open: bool = False


LIMITS: Mapping[str, Limit] = {
    "C1": Limit("determinism", 1e-4),  # AutoAttack's check of randomized defences
    "C2": Limit("state leakage", 1e-5, "fail"),  # fp32 rounding of one layer
    "C3": Limit("output are logits", 0.001, open=True),
    "C4": Limit("budget, range, finite", 0, "fail"),
    "C5": Limit("re-check", 0, "fail"),
    "C6": Limit("graph intact", 0, "fail"),  # Pintor et al. (2022): interrupted graph
    "C7": Limit("zero gradient", 0.01, fatal=0.1, open=True),  # AutoAttack flags it at the start
    "C8": Limit("vanishing degree", 0.9, open=True),  # ASSG aims at 0.85
    "C9": Limit("gradient against differences", 0.5, open=True),  # a coin
    "C10": Limit("iterative beats single step", NOISE, "fail"),  # Athalye et al. (2018), sign 1
    "C11": Limit("converged", 0.5 * POINT, counted=True),
    "C12": Limit("monotone in the budget", NOISE, "fail"),  # Athalye et al., sign 5
    "C13": Limit("unbounded", GONE, "fail"),  # Athalye et al., sign 3
    "C14": Limit("black box by scores", 0.2 * POINT, counted=True),  # AutoAttack; sign 2
    "C15": Limit("black box by labels", 1),
    "C16": Limit("transfer", 0.5 * POINT, counted=True),
    "C17": Limit("random search", 0, "fail"),  # Athalye et al., sign 4
    "C18": Limit("ensemble saturation", 2 * POINT, counted=True),
    "C19": Limit("restarts and losses", 0.5 * POINT, counted=True),
    "C20": Limit("expectation over noise", 0.5 * POINT, counted=True),
    "C21": Limit("noise of the loss", 0.1, open=True),  # Pintor et al.: unstable predictions
    "C22": Limit("complete optimisation", 0.05),  # Pintor et al.: incomplete optimisation
    "C23": Limit("silent success", 0, "fail"),  # Pintor et al.: silent success
    "C24": Limit("transfer failure inside", 0.2),  # Pintor et al.: transfer failure
    "C25": Limit("8-bit inputs", 0.2 * POINT, counted=True),
    "C26": Limit("undefended control", 0.01, "fail", open=True),
    "C27": Limit("planted masking", 0, "fail"),
    "C28": Limit("event feasibility", 0, "fail"),
    "C29": Limit("data integrity", 0, "fail"),
    "C30": Limit("parity", 0, "fail"),
}
NEXT_MEMBER = 0.3 * POINT  # what the last gradient may still add to an ensemble (C18)


def decide(
    id: str, value: float, detail: str, *, samples: int = 0, limit: float | None = None
) -> Check:
    """Returns the verdict on a measure by its rule; NaN never passes.

    ``limit`` replaces the rule's own where that depends on the data; ``samples`` is how many a
    counted share is of.
    """
    rule = LIMITS[id]
    most = rule.most if limit is None else limit
    if rule.counted and samples:
        most = max(most, 1 / samples)
    good = value < most if rule.open else value <= most + ROUNDING
    verdict = "pass" if good else "fail" if not value <= rule.fatal else rule.beyond
    known = value if math.isfinite(value) else None  # JSON has no other numbers
    return Check(id, rule.name, known, most, verdict, detail)


def skip(id: str, reason: str) -> Check:
    """Returns the check as one that does not apply, or was not made."""
    return Check(id, LIMITS[id].name, None, None, "na", reason)


def check_steps(
    standing: Mapping[str, Tensor],
    roles: Roles,
    *,
    classes: int,
    met: Mapping[str, Tensor] | None = None,
    stochastic: bool = False,
    unbounded: float = math.inf,
) -> tuple[Check, ...]:
    """Returns C10..C20 of a finished suite, those without steps as "na".

    ``standing`` maps a step to (B,) booleans: right before it, and not broken by it; ``met`` to
    which samples it met, by default all. The bits of a curve (``steps``, ``eps``, ``draws``) may
    be of fewer samples. ``unbounded`` is the budget that admits every input of the range; half of
    it admits the grey image.
    """
    unknown = next((id for id in roles.ids if id not in standing), None)
    if unknown is not None:
        raise Refusal(
            f"a check asks for step {unknown!r}, of which there are no results; roles name steps "
            f"that were run; {nearest(unknown, standing)}"
        )
    bits = _Bits(standing, met or {}, roles.primary)
    repeats = (roles.primary,) if roles.primary else ()
    return (
        _iterative(bits, roles),
        _converged(bits, roles.steps),
        _monotone(bits, roles.eps, unbounded),
        _unbounded(bits, roles.eps, unbounded, classes),
        bits.more("C14", roles.white, roles.square),
        bits.more("C15", (*roles.white, *roles.square), roles.labels),
        bits.more("C16", roles.white, roles.transfer),
        bits.more("C17", roles.white, roles.random),
        _saturated(bits, roles.members),
        bits.more("C19", repeats and roles.white, roles.repeats),
        draws(_drawn(bits, roles.draws), stochastic, bits.n),
    )


class _Bits:
    def __init__(
        self, standing: Mapping[str, Tensor], met: Mapping[str, Tensor], primary: str
    ) -> None:
        self.standing, self.met, self.primary = standing, met, primary
        self.n = max((len(bits) for bits in standing.values()), default=0)

    def accuracy(self, *ids: str) -> float:
        return float(self.all(ids).double().mean())

    def empty(self, ids: Iterable[str]) -> bool:
        """Whether a step of these was asked about no sample."""
        return any(not len(self.standing[id]) for id in ids)

    def all(self, ids: Sequence[str]) -> Tensor:
        return torch.stack([self.standing[id] for id in ids]).all(0)

    def more(self, id: str, before: Sequence[str], after: Sequence[str]) -> Check:
        """Returns the verdict on what ``after`` breaks of all that ``before`` leaves standing.

        A sample that fell before the primary attack met it was not left by anybody.
        """
        if not before or not after:
            return skip(id, "the suite has no step for it")
        left = self.all(before)
        if self.primary in self.met:
            left = left & self.met[self.primary]
        found = int((left & ~self.all(after)).sum())
        value = found / max(self.n, 1) if LIMITS[id].counted else found
        detail = f"{found} of the {int(left.sum())} that stood fell"
        return decide(id, value, detail, samples=self.n)


def _iterative(bits: _Bits, roles: Roles) -> Check:
    pairs = [
        (weaker, stronger)
        for weaker, stronger in ((roles.random, roles.single), (roles.single, roles.iterative))
        if weaker and stronger
    ]
    if not pairs:
        return skip("C10", "the suite has no pair of random, single-step and iterative attacks")
    found = []
    for weaker, stronger in pairs:
        low, high = bits.accuracy(*weaker), bits.accuracy(*stronger)
        excess = high - low
        found.append((excess - _noise(low, len(bits.all(weaker))), excess, low, high))
    over, excess, low, high = max(found)
    detail = f"{high:.1%} stand against the stronger kind, {low:.1%} against the weaker"
    return decide("C10", excess, detail, limit=excess - over)


def _converged(bits: _Bits, steps: Mapping[int, str]) -> Check:
    if len(steps) < 2:
        return skip("C11", "the suite runs its primary attack with one number of iterations")
    if bits.empty(steps.values()):
        return skip("C11", NONE_RIGHT)
    curve = [(n, bits.accuracy(steps[n])) for n in sorted(steps)]
    size = len(bits.standing[steps[max(steps)]])
    rise = max(after - before for (_, before), (_, after) in pairwise(curve))
    shown = ", ".join(f"{accuracy:.1%} at {n}" for n, accuracy in curve)
    if rise > _noise(curve[0][1], size):
        return Check(
            "C11", LIMITS["C11"].name, rise, 0, "fail", f"more iterations break less: {shown}"
        )
    return decide("C11", curve[-2][1] - curve[-1][1], shown, samples=size)


def _monotone(bits: _Bits, eps: Mapping[float, str], unbounded: float) -> Check:
    if len(eps) < 2:
        return skip("C12", "the suite has no curve over budgets")
    if bits.empty(eps.values()):
        return skip("C12", NONE_RIGHT)
    curve = [(e, bits.accuracy(eps[e])) for e in sorted(eps)]
    size = len(bits.standing[eps[max(eps)]])
    shown = ", ".join(f"{accuracy:.1%} at {e:.3g}" for e, accuracy in curve)
    rise, noise = max(
        ((b - a, _noise(a, size)) for (_, a), (_, b) in pairwise(curve)),
        key=lambda pair: pair[0] - pair[1],
    )
    if max(eps) >= unbounded and curve[-1][1] > GONE:
        return Check("C12", LIMITS["C12"].name, curve[-1][1], GONE, "fail", f"not to 0: {shown}")
    return decide("C12", rise, shown, limit=noise)


def _unbounded(bits: _Bits, eps: Mapping[float, str], unbounded: float, classes: int) -> Check:
    if bits.empty(eps.values()):
        return skip("C13", NONE_RIGHT)
    whole = [bits.accuracy(id) for e, id in eps.items() if e >= unbounded]
    grey = [bits.accuracy(id) for e, id in eps.items() if math.isclose(e, unbounded / 2)]
    if not whole:
        return skip("C13", "the suite has no step with a budget that admits every input")
    if grey and max(grey) > 1 / classes + ABOVE_CHANCE:
        detail = (
            f"{max(grey):.1%} stand where the grey image is admitted, chance is {1 / classes:.1%}"
        )
        return decide("C13", max(grey), detail, limit=1 / classes + ABOVE_CHANCE)
    return decide("C13", max(whole), f"{max(whole):.1%} stand where every input is admitted")


def _saturated(bits: _Bits, members: Sequence[str]) -> Check:
    """Judges the gain over the best gradient, which is known where all met the same samples."""
    if len(members) < 2:
        return skip("C18", "the suite has one gradient")
    union = bits.accuracy(*members)
    fresh = bits.accuracy(*members[:-1]) - union
    detail = f"the last of {len(members)} attacks by gradients adds {fresh:.2%}"
    if fresh > max(NEXT_MEMBER, 1 / max(bits.n, 1)) + ROUNDING:
        return Check("C18", LIMITS["C18"].name, fresh, NEXT_MEMBER, "flag", detail)
    met = [bits.met.get(id, torch.ones(bits.n, dtype=torch.bool)) for id in members]
    if any(not torch.equal(met[0], other) for other in met):
        return decide("C18", fresh, detail, limit=NEXT_MEMBER, samples=bits.n)
    gain = min(bits.accuracy(id) for id in members) - union
    return decide("C18", gain, f"{detail}, all gain {gain:.2%} over the best", samples=bits.n)


def _drawn(bits: _Bits, steps: Mapping[int, str]) -> dict[int, float]:
    """Returns what stands by number of draws; steps that met survivors are added up."""
    order = [steps[count] for count in sorted(steps)]
    met = [bits.met.get(id, torch.ones(0)) for id in order]
    apart = any(not torch.equal(met[0], other) for other in met)
    ids = [order[: i + 1] if apart else [id] for i, id in enumerate(order)]
    return {count: bits.accuracy(*group) for count, group in zip(sorted(steps), ids, strict=True)}


def draws(accuracy: Mapping[int, float], stochastic: bool, samples: int) -> Check:  # noqa: FBT001
    """Returns C20 from the robust accuracy by number of draws per gradient (EOT)."""
    if not stochastic:
        return skip("C20", "the model is deterministic")
    if any(math.isnan(share) for share in accuracy.values()):
        return skip("C20", NONE_RIGHT)
    if len(accuracy) < 2:
        return Check(
            "C20",
            LIMITS["C20"].name,
            None,
            LIMITS["C20"].most,
            "flag",
            "the model draws noise and no attack averaged gradients over m and 2m draws",
        )
    counts = sorted(accuracy)
    gain = accuracy[counts[-2]] - accuracy[counts[-1]]
    weaker = accuracy[counts[-1]] - accuracy[counts[0]]
    shown = ", ".join(f"{accuracy[m]:.1%} with {m}" for m in counts)
    return decide("C20", max(gain, weaker), shown, samples=samples)


def converged(robust: Mapping[int, float], samples: int) -> Check:
    """Returns C11 from the robust accuracy after a number of queries of one run.

    What one run has broken stays broken, so the curve can only fall.
    """
    counts = sorted(robust)
    shown = ", ".join(f"{robust[n]:.1%} after {n}" for n in counts)
    drop = robust[counts[-2]] - robust[counts[-1]]
    return decide("C11", drop, f"of one run's queries: {shown}", samples=samples)


def control(robust: float) -> Check:
    """Returns C26 from the robust accuracy that the suite leaves an undefended network."""
    return decide("C26", robust, f"{robust:.1%} of an undefended network's samples stand")


def twin_failure(fooled_twin: Tensor, fooled: Tensor) -> Check:
    """Returns C24: how often what fools another graph, followed for its gradient, misses the model.

    Both are (B,) for the adversarials of one attack: an analog twin's, another T's.
    """
    count = int(fooled_twin.sum())
    if not count:
        return skip("C24", "no adversarial fools the other graph")
    missed = int((fooled_twin & ~fooled).sum())
    return decide("C24", missed / count, f"{missed} of {count} fool the other graph only")


def parity(protocols: Sequence[Mapping[str, object]]) -> Check:
    """Returns C30 of records to be compared: what their attacks, budgets, samples, seeds are."""
    if len(protocols) < 2:
        return skip("C30", "nothing is compared")
    keys = sorted({key for protocol in protocols for key in protocol})
    apart = [key for key in keys if any(p.get(key) != protocols[0].get(key) for p in protocols)]
    return decide("C30", len(apart), f"they differ in {', '.join(apart) or 'nothing'}")


def worst_of(*groups: Sequence[Check]) -> tuple[Check, ...]:
    """Returns one check per id, C1 to C30: the worst verdict, the first of equals.

    A check that nobody made is "na", for the reason that somebody gave.
    """

    def weight(check: Check) -> tuple[int, bool]:
        return SEVERITY.index(check.verdict), check.detail != NOBODY

    merged = []
    for id in LIMITS:
        found = [check for group in groups for check in group if check.id == id]
        none = skip(id, NOBODY)
        merged.append(max(found, key=weight, default=none))
    return tuple(merged)


def made(*groups: Sequence[Check]) -> tuple[Check, ...]:
    """Returns the worst of the checks that somebody made, or gave a reason not to make."""
    return tuple(check for check in worst_of(*groups) if check.detail != NOBODY)


def _noise(accuracy: float, samples: int) -> float:
    if not samples:
        return NOISE
    low, high = wilson(round(accuracy * samples), samples)
    return max(NOISE, (high - low) / 2)
