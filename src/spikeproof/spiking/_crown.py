"""Linear bounds of a spiking network: S-CROWN (Liang et al., NeurIPS 2022).

A weighted sum of values is followed backwards: at every layer it becomes a weighted sum of the
layer's input that is nowhere larger, and at the entrance its least value is known. What two values
owe to the same input is kept that way, where intervals let both be worst alone.

Linear layers are passed as they are. A spike and what its reset leaves are together one function
of the membrane u, with a jump at theta; a line below it is taken. Every u whose spike is open is
bounded by sums of its own, step by step, within its interval bounds. For the margins the slopes of
all lines are then improved by ascent (alpha-CROWN; Xu et al., ICLR 2021). Whatever else there is,
such as a max pool, ends the way with its interval. Values are those of float32: every layer takes
off what it may lose (_intervals.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.spiking._bounds import (
    MEANS,
    NORMS,
    Bounds,
    entered,
    in_doubles,
    is_plain,
    margins,
    reset,
)
from spikeproof.spiking._intervals import FLOAT32, Changes, Interval, margin_of_sums
from spikeproof.spiking._neurons import Spiking
from spikeproof.spiking._surrogates import heaviside

STRAIGHT = (nn.Linear, nn.Conv2d, nn.Flatten, nn.Identity, *NORMS, *MEANS)
AT_ONCE = 2**22  # weights of one set; changes no result

Weighted = list[tuple[Interval | Changes, Tensor]]
Back = Callable[[Tensor], tuple[Weighted, Tensor]]


@dataclass(frozen=True, eq=False)
class Traced(Interval):
    """An interval that knows what it was made of.

    From weights (S, N, *F) of its values ``back`` gives weights of theirs and numbers (S, B): sums
    that are nowhere larger. Whatever else is made of it is an interval without a past.
    """

    place: int = 0
    back: Back | None = None


@dataclass(frozen=True, eq=False)
class _Step:
    """A membrane before its spike; what rounding does to it, and to what its reset leaves."""

    u: Interval
    off: Tensor
    left: Tensor


class Crown(Bounds):
    """Follows a set around each of ``count`` inputs through layers, and sums of values back.

    At most ``most`` membranes of a sample, neurons times steps, are bounded.
    """

    def __init__(self, count: int, most: int) -> None:
        super().__init__(FLOAT32)
        self.count, self.most = count, most
        self.places = self.membranes = 0
        self.widest = 1
        self.mixes: dict[int, Tensor] | None = None  # of lines, by step, while they are sought

    @override
    def __call__(self, layer: Any, x: Interval | Changes) -> Interval | Changes:
        out = super().__call__(layer, x)
        own = getattr(layer, "bounded", None) is not None
        straight = not own and any(is_plain(layer, kind) for kind in STRAIGHT)
        if not straight or isinstance(out, Changes):
            return out
        error = out.upper - _interval(Bounds()(layer, x)).upper
        zero = torch.zeros_like(x.x if isinstance(x, Changes) else x.lower).requires_grad_()
        with torch.enable_grad():
            answer = layer(zero)

        def back(weights: Tensor) -> tuple[Weighted, Tensor]:
            (before,) = torch.autograd.grad(
                answer,
                zero,
                weights,
                retain_graph=True,
                create_graph=torch.is_grad_enabled(),
                is_grads_batched=True,
            )
            return [(x, before)], self._summed(weights * answer.detach() - weights.abs() * error)

        return self._traced(out, back)

    @override
    def sum(self, a: Interval | Changes, b: Interval | Changes) -> Interval:
        out = super().sum(a, b)
        error = out.upper - Bounds().sum(a, b).upper

        def back(weights: Tensor) -> tuple[Weighted, Tensor]:
            return [(a, weights), (b, weights)], -self._summed(weights.abs() * error)

        return self._traced(out, back)

    def lowest(self, x: Interval | Changes, weights: Tensor) -> Tensor:
        """Returns (S, B) lower bounds of the sums of a set's values under weights (S, N, *F)."""
        least, due = torch.zeros(()), {id(x): (x, weights)}
        while due:
            x, weights = due.pop(max(due, key=lambda key: _place(due[key][0])))
            if not isinstance(x, Traced) or x.back is None:
                least = least + self._least(x, weights)
                continue
            parts, shift = x.back(weights)
            least = least + shift
            for part, more in parts:
                known = due.get(id(part))
                due[id(part)] = (part, more if known is None else known[1] + more)
        return least

    def climbed(self, x: Interval | Changes, weights: Tensor, steps: int) -> Tensor:
        """Returns the best of such bounds that an ascent over the slopes of lines meets."""
        best, self.mixes = self.lowest(x, weights), {}
        with torch.enable_grad():
            found = self.lowest(x, weights)
            mixes = [*self.mixes.values()]
            for step in range(steps if mixes else 0):
                slopes = torch.autograd.grad(found.sum(), mixes)
                with torch.no_grad():
                    for mix, slope in zip(mixes, slopes, strict=True):
                        mix.add_(slope.sign(), alpha=1 / (2 + step)).clamp_(0, 1)
                found = self.lowest(x, weights)
                best = torch.maximum(best, found.detach())
        self.mixes = None
        return best

    @override
    def _neurons(self, layer: Spiking, x: Interval) -> Interval:
        if layer.smooth:
            return super()._neurons(layer, x)
        ends = zip(layer.unfolded(x.lower), layer.unfolded(x.upper), strict=True)
        currents = [Interval(*pair) for pair in ends]
        after = Interval(*[torch.zeros_like(currents[0].lower)] * 2)
        self._afford(layer.T * after.lower[0].numel())
        theta, tau = self._number(layer.theta), self._number(layer.tau)
        hard, share = layer.neuron.reset == "hard", margin_of_sums(2, self.unit)
        steps, lows, highs = list[_Step](), [], []
        for current in currents:
            off = share * (tau * after.largest + current.largest)
            u = Interval(tau * after.lower + current.lower, tau * after.upper + current.upper)
            u = self._narrowed(u.widened(off), theta, self._membrane(layer, x, (*steps,), off))
            low, high = (heaviside(end - theta) for end in (u.lower, u.upper))
            after = reset(u, low, high, theta, hard=hard, smooth=False)
            steps.append(_Step(u, off, share * after.largest))
            after = after.widened(steps[-1].left)
            lows.append(low)
            highs.append(high)

        def back(weights: Tensor) -> tuple[Weighted, Tensor]:
            each = weights.unflatten(1, (layer.T, -1)).unbind(1)
            slopes, least = self._unrolled(layer, steps, each, torch.zeros_like(each[0]))
            return [(x, _folded(layer, slopes))], least

        return self._traced(Interval(torch.cat(lows), torch.cat(highs)), back)

    def _membrane(self, layer: Spiking, x: Interval, steps: Sequence[_Step], off: Tensor) -> Back:
        """Returns the way back from the membrane that follows these steps."""
        tau = self._number(layer.tau)

        def back(weights: Tensor) -> tuple[Weighted, Tensor]:
            none = torch.zeros_like(weights)
            slopes, least = self._unrolled(layer, steps, [none] * len(steps), tau * weights)
            slopes += [weights, *[none] * (layer.T - len(steps) - 1)]
            return [(x, _folded(layer, slopes))], least - self._summed(weights.abs() * off)

        return back

    def _unrolled(
        self, layer: Spiking, steps: Sequence[_Step], spikes: Sequence[Tensor], rest: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Returns weights of every step's current, and numbers.

        ``spikes`` are the weights of every step's spikes, ``rest`` that of what the last step
        leaves.
        """
        theta, tau = self._number(layer.theta), self._number(layer.tau)
        hard = layer.neuron.reset == "hard"
        slopes, least = list[Tensor](), torch.zeros(())
        for step, spike in zip(reversed(steps), reversed(spikes), strict=True):
            mix = self._mix(step, theta, rest)
            slope, shift = line_below(spike, rest, step.u, theta, mix, hard=hard)
            least = least + self._summed(shift - rest.abs() * step.left - slope.abs() * step.off)
            slopes.insert(0, slope)
            rest = tau * slope
        return slopes, least

    def _mix(self, step: _Step, theta: Any, like: Tensor) -> Tensor:
        """Returns where a line lies between the two pieces that meet at theta.

        Unless better is sought it is the piece over the middle of the interval, which leaves the
        least area between.
        """
        late = (step.u.upper - theta >= theta - step.u.lower).to(like)
        if self.mixes is None:
            return late
        fresh = late.expand_as(like).clone().requires_grad_()
        return self.mixes.setdefault(id(step), fresh)

    def _narrowed(self, u: Interval, theta: Any, back: Back) -> Interval:
        """Returns tighter bounds of those membranes whose spike is open."""
        node = self._traced(u, back)
        unsure = ((u.lower < theta) & (u.upper >= theta)).flatten(1)
        lower, upper = u.lower.flatten(1).clone(), u.upper.flatten(1).clone()
        asked, size = unsure.any(0).nonzero()[:, 0], max(1, AT_ONCE // self.widest)
        for start in range(0, len(asked), size):
            places = asked[start : start + size]
            one = functional.one_hot(places, lower.shape[1]).to(lower)
            weights = one[:, None].expand(-1, self.count, -1).unflatten(2, u.lower.shape[1:])
            sure = ~unsure[:, places]  # what a sample is bounded by is nobody else's affair
            low = self.lowest(node, weights).T.masked_fill(sure, -torch.inf)
            high = -self.lowest(node, -weights).T.masked_fill(sure, -torch.inf)
            lower[:, places] = torch.maximum(lower[:, places], low)
            upper[:, places] = torch.minimum(upper[:, places], high)
        return Interval(lower.reshape(u.lower.shape), upper.reshape(u.upper.shape))

    def _least(self, x: Interval | Changes, weights: Tensor) -> Tensor:
        if isinstance(x, Interval):
            return self._summed(weights.clamp_min(0) * x.lower + weights.clamp_max(0) * x.upper)
        still = self._summed(weights * x.x - weights.abs() * x.error)
        gains = torch.maximum(weights * (x.x - x.low), weights * (x.x - x.high))
        gains, slopes = (
            value.flatten(2).unflatten(1, (-1, self.count)).transpose(1, 2).flatten(2)
            for value in (gains, weights.abs())
        )
        if x.norm == "l0":
            return still - gains.topk(min(int(x.budget), gains.shape[2]), dim=2).values.sum(2)
        return still - torch.minimum(gains.sum(2), x.budget * slopes.amax(2))

    def _summed(self, values: Tensor) -> Tensor:
        """Returns (S, B), the sums of what each sample has of (S, N, *F)."""
        return values.flatten(2).sum(2).unflatten(1, (-1, self.count)).sum(1)

    def _traced(self, out: Interval, back: Back) -> Traced:
        self.places += 1
        self.widest = max(self.widest, out.lower.numel())
        return Traced(out.lower, out.upper, None, self.places, back)

    def _afford(self, membranes: int) -> None:
        self.membranes += membranes
        if self.membranes > self.most:
            raise Refusal(
                f"a sample has {self.membranes:,} membranes in time or more; each may need sums of "
                f"its own, and {self.most:,} are bounded; take the method ibp, or a larger most"
            )


def line_below(
    spike: Tensor, rest: Tensor, u: Interval, theta: Any, mix: Tensor, *, hard: bool
) -> tuple[Tensor, Tensor]:
    """Returns slope and shift of a line in u that is nowhere above ``spike s(u) + rest r(u)``.

    s is the spike, and r what the reset leaves. Where the spike is open that is linear below theta
    and, after a jump, from theta on. Where the lower end of the jump is below the chord the line
    passes it, with the slope of the piece before (``mix`` 0) or behind (1) or one between.
    """
    never, sure = u.upper < theta, u.lower >= theta
    either = never | sure
    width = (u.upper - u.lower).masked_fill(either, 1.0)
    before = (theta - u.lower).masked_fill(either, 1.0)
    behind = (u.upper - theta).masked_fill(either | (u.upper <= theta), 1.0)
    left = rest * u.lower
    right = spike if hard else spike + rest * (u.upper - theta)
    knee = torch.minimum(rest * theta, spike)
    chord, early = (right - left) / width, (knee - left) / before
    bent = torch.lerp(early, torch.maximum(early, (right - knee) / behind), mix)
    convex = knee < left + chord * before
    slope = torch.where(convex, bent, chord)
    shift = torch.where(convex, knee - bent * theta, left - chord * u.lower)
    slope = torch.where(never, rest, torch.where(sure, 0 * rest if hard else rest, slope))
    kept = spike if hard else spike - rest * theta
    return slope, torch.where(never, 0.0, torch.where(sure, kept, shift))


def crown_margins(
    network: nn.Module, x: Interval | Changes, y: Tensor, *, most: int = 4_000, steps: int = 20
) -> Tensor:
    """Returns (B, K) lower bounds of the margins in float32, none below those by intervals.

    At most ``most`` membranes of a sample, neurons times steps of time, are bounded. ``steps``
    counts those of the ascent.
    """
    with torch.no_grad():
        exact = in_doubles(network)
        wide, bounds = margins(exact, x, y, FLOAT32)[0], Crown(len(y), most)
        out = bounds(exact.layers, entered(exact.encode, x, FLOAT32))
        end = _interval(out)
        classes, times = end.lower.shape[1], len(end.lower) // len(y)
        own = functional.one_hot(y, classes).to(end.lower)
        apart = own - torch.eye(classes).to(own)[:, None]
        least = bounds.climbed(out, apart.repeat(1, times, 1) / times, steps).T
        size = end.largest.unflatten(0, (times, -1)).mean(0)
        error = margin_of_sums(times, FLOAT32) * (size + (size * own).sum(1, keepdim=True))
        return torch.maximum(wide, (least - error).masked_fill(own > 0, 0.0))


def _interval(x: Interval | Changes) -> Interval:
    return x.interval if isinstance(x, Changes) else x


def _folded(layer: Spiking, slopes: list[Tensor]) -> Tensor:
    """Returns weights of a layer's input, time folded, from those of its currents."""
    return torch.stack(slopes).sum(0) if layer.opens_time else torch.cat(slopes, 1)


def _place(x: Interval | Changes) -> int:
    return x.place if isinstance(x, Traced) else 0
