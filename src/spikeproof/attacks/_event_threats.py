"""What an attacker may do to event frames: add and remove events, or move them in time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from spikeproof.attacks._threat import Linf, Noise, Threat, per_row
from spikeproof.errors import Refusal


@dataclass(frozen=True)
class Flips(Threat):
    """At most ``k`` events are added or removed; frames stay what the sensor could deliver.

    A binary frame holds 0 or 1 and a change flips an entry; a count frame holds whole numbers
    from 0 on and a change is one event, so its budget is the sum of the absolute differences.
    """

    k: int
    binary: bool = True
    kind: Literal["flips"] = "flips"

    def __post_init__(self) -> None:
        _check_budget("k", self.k)

    @property
    def high(self) -> float:
        """The most events that an entry can hold."""
        return 1.0 if self.binary else math.inf

    def uphill(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Returns the change of one event per entry, -1, 0 or 1, that rises along the gradient."""
        up = (gradient > 0) & (x < self.high)
        return up.to(x.dtype) - ((gradient < 0) & (x > 0)).to(x.dtype)

    @override
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns the nearest admissible frames in the Euclidean norm; ties go to the first entry.

        The n-th event of an entry that should change by d brings its distance down by
        ``2 (|d| - n) + 1``: less with every event, so the best k events are the nearest frames.
        """
        _check_frames(x, self.high)
        wanted = (x_adv - x).nan_to_num(0.0, 0.0, 0.0).flatten(1).double()
        room = torch.where(wanted < 0, x.flatten(1).double(), self.high - x.flatten(1).double())
        whole = torch.ceil(wanted.abs() - 0.5)  # a half stays, so that an event must bring gain
        low, high = torch.zeros_like(whole[:, :1]), whole.amax(1, keepdim=True)
        for _ in range(64):
            middle = torch.floor((low + high) / 2)
            fits = _events(whole, middle, room).sum(1, keepdim=True) <= self.k
            low, high = torch.where(fits, low, middle + 1), torch.where(fits, middle, high)
            if bool((low >= high).all()):
                break
        taken = _events(whole, high, room)
        left = self.k - taken.sum(1, keepdim=True)
        more = (high > 0) & (_events(whole, high - 1, room) > taken)
        rest = torch.where(more, wanted.abs() - whole, -torch.inf)
        order = rest.argsort(dim=1, descending=True, stable=True)
        taken += more & (order.argsort(dim=1) < left)
        return x + (wanted.sign() * taken).reshape(x.shape).to(x.dtype)

    @override
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv.double() - x.double()).abs().flatten(1).sum(1).to(x.dtype)

    @override
    def admits(self, x_adv: Tensor, x: Tensor) -> Tensor:
        _check_frames(x, self.high)
        return _deliverable(x_adv, self.high) & (self.size(x_adv, x) <= self.k)

    @override
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns frames with k changes at random entries; counts rise or fall at equal odds."""
        _check_frames(x, self.high)
        order, side = noise((2, *x.shape[1:])).unbind(1)
        ranks = order.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).reshape(x.shape)
        every, rest = divmod(self.k, max(1, x[0].numel() if len(x) else 1))
        if self.binary:
            return torch.where(ranks < rest, 1 - x, x) if not every else 1 - x
        amount = every + (ranks < rest).to(x.dtype)
        return torch.where((side < 0.5) & (amount <= x), x - amount, x + amount)


@dataclass(frozen=True)
class Retiming(Threat):
    """Events come earlier or later: all events of an entry move to another step as one packet.

    A packet keeps its pixel, polarity and number of events, and no two share an entry. The
    budget limits the largest shift (``binf``), the sum of all shifts (``b1``) or the number of
    packets that move (``b0``), for every sample by itself.

    Packets of one pixel with equally many events cannot be told apart, so a change is as large
    as the cheapest history that explains it. All three are exact: shifts on a line are least,
    in sum and at most, when packets keep their order; and the fewest packets move when each stays
    that can.
    """

    budget: int
    limits: Literal["binf", "b1", "b0"] = "binf"
    kind: Literal["retiming"] = "retiming"

    def __post_init__(self) -> None:
        _check_budget("budget", self.budget)

    @override
    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns what the change spends; infinite where it is no retiming at all."""
        moved = x_adv.sort(dim=1, stable=True)
        still = x.sort(dim=1, stable=True)
        same = (moved.values == still.values).flatten(1).all(1)
        if self.limits == "b0":
            spent = ((x != 0) & (x_adv != x)).flatten(1).sum(1)
        else:
            shift = (moved.indices - still.indices).abs() * (still.values != 0)
            flat = shift.flatten(1)
            spent = flat.sum(1) if self.limits == "b1" or not flat.shape[1] else flat.amax(1)
        return torch.where(same, spent.to(x.dtype), torch.inf)

    @override
    def admits(self, x_adv: Tensor, x: Tensor) -> Tensor:
        _check_frames(x, math.inf)
        return _deliverable(x_adv, math.inf) & (self.size(x_adv, x) <= self.budget)

    @override
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns admissible frames near any others; those already admissible are left alone.

        Retimings have one norm, so the nearest is that of the largest inner product; moves are
        taken greedily by what they add to it.
        """
        wish = x_adv.nan_to_num(0.0, 0.0, 0.0)
        gain = x[:, :, None] * (wish[:, None] - wish[:, :, None])
        return torch.where(per_row(self.admits(x_adv, x), x), x_adv, self.arrange(gain, x))

    @override
    def random(self, x: Tensor, noise: Noise) -> Tensor:
        steps = x.shape[1]
        return self.arrange(noise((steps, *x.shape[1:])), x)

    def arrange(self, gain: Tensor, x: Tensor) -> Tensor:
        """Returns frames retimed by the moves of most gain that the budget and free steps allow.

        ``gain`` is (B, from, to, *F): the worth of moving a packet, counted where positive. In
        every round each pixel makes its best move into a step that is free; a packet moves once,
        and two never trade places. Then each sample spends its budget on the moves of most gain
        for their cost, in order.
        """
        _check_frames(x, math.inf)
        packets = x.flatten(2)
        count, steps, lines = packets.shape
        time = torch.arange(steps, device=x.device)
        shift = (time[:, None] - time).abs()
        allowed = (shift > 0) & (shift <= self.reach(steps))
        gain = torch.where(allowed[..., None], gain.reshape(count, steps, steps, lines), 0.0)
        waits, free = packets != 0, packets == 0
        place = time[:, None].expand_as(packets).clone()
        rounds: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(steps):
            open_ = waits[:, :, None] & free[:, None]
            best, move = torch.where(open_, gain, 0.0).flatten(1, 2).max(1)
            if not bool((best > 0).any()):
                break
            rounds.append((best, move // steps, move % steps))
            self._make(rounds[-1], waits, free)
        if rounds:
            best, origin, to = (torch.stack(parts, 1) for parts in zip(*rounds, strict=True))
            made = best > 0
            if self.limits != "binf":
                cost = (origin - to).abs() if self.limits == "b1" else torch.ones_like(to)
                made &= _affordable(best / cost.clamp_min(1), cost, self.budget)
            for i in range(len(rounds)):
                here = origin[:, i, None]
                target = torch.where(made[:, i], to[:, i], place.gather(1, here)[:, 0])
                place.scatter_(1, here, target[:, None])
        return torch.zeros_like(packets).scatter_add(1, place, packets).reshape(x.shape)

    def reach(self, steps: int) -> int:
        """Returns how far one packet can move in a recording of so many steps."""
        far = steps - 1 if self.limits == "b0" and self.budget else self.budget
        return min(far, steps - 1)

    @staticmethod
    def _make(move: tuple[Tensor, Tensor, Tensor], waits: Tensor, free: Tensor) -> None:
        best, origin, to = (part[:, None] for part in move)
        made = best > 0
        waits.scatter_(1, origin, waits.gather(1, origin) & ~made)
        free.scatter_(1, origin, free.gather(1, origin) | made)
        free.scatter_(1, to, free.gather(1, to) & ~made)


@dataclass(frozen=True)
class RelaxedLinf(Linf):
    """Every entry may move by ``eps``, to real values: a relaxation that no sensor delivers.

    For comparison with the literature only. ``high`` is the most events that an entry can hold.
    """

    high: float = field(kw_only=True)
    kind: Literal["relaxed_linf"] = "relaxed_linf"  # type: ignore[assignment]  # tells it apart


def _events(whole: Tensor, level: Tensor, room: Tensor) -> Tensor:
    return torch.minimum((whole - level).clamp_min(0), room)


def _affordable(worth: Tensor, cost: Tensor, budget: int) -> Tensor:
    """Which moves (B, rounds, lines) each sample makes; a line makes its first ones or none.

    Whoever is too dear for what is left stops his line, and the others go on.
    """
    order = worth.cummin(1).values.flatten(1).argsort(dim=1, descending=True, stable=True)
    alive = worth > 0
    made = torch.zeros_like(alive)
    while True:
        left = budget - (cost * made).sum((1, 2))[:, None, None]
        dear = alive & ~made & (cost > left)
        alive &= dear.long().cummax(1).values == 0
        waiting = alive & ~made
        if not bool(waiting.any()):
            return made
        spent = (cost * waiting).flatten(1).gather(1, order).cumsum(1)
        fits = torch.zeros_like(spent).scatter(1, order, spent).reshape(cost.shape) <= left
        made |= waiting & fits


def _deliverable(x_adv: Tensor, high: float) -> Tensor:
    rows = x_adv.flatten(1)
    return ((rows >= 0) & (rows <= high) & rows.isfinite() & (rows == rows.round())).all(1)


def _check_frames(x: Tensor, high: float) -> None:
    if not bool(_deliverable(x, high).all()):
        wrong = x.flatten(1)[~_deliverable(x, high)][0]
        off = wrong[~((wrong >= 0) & (wrong <= high) & (wrong == wrong.round()))]
        value = off[0].item() if len(off) else math.inf
        raise Refusal(
            f"an entry of the event frames is {value:g}; a frame of events holds "
            f"{'0 or 1' if high == 1 else 'whole numbers from 0 on'}; give the frames as the "
            "sensor delivers them, or attack them under RelaxedLinf"
        )


def _check_budget(name: str, value: int) -> None:
    if value < 0 or value != int(value):
        raise Refusal(f"{name} is {value}; it counts changes; take a whole number from 0 on")
