"""What every kernel owes: the reference's spikes bit for bit, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

from spikeproof.seeding import generator
from spikeproof.spiking import Rule, integrate_and_fire, kernel

LENGTHS = (1, 4, 19)  # one piece of time, and several
PIECE = 8  # steps over which a gradient is summed in the reference's order
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last),
    "static": lambda x: x[:1].expand_as(x),
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "holes": lambda x: torch.stack([x, -x], -1)[..., 0],
    "one sample for all": lambda x: x[:, :1].expand_as(x),
}


@dataclass(frozen=True)
class Case:
    """One call: what goes in, and what asks for a gradient."""

    current: Tensor
    membrane: Tensor | None
    learned: bool
    hard: bool
    steps: int | None = None  # for which a current of one step is held

    def run(self, rule: Rule, name: str, calls: int = 1) -> list[Tensor]:
        """Returns spikes, membrane and all gradients of the last of several calls."""
        memory = rule.memory()
        theta, tau = torch.tensor(0.9), torch.tensor(0.6)
        values = [self.current] if self.membrane is None else [self.current, self.membrane]
        values = [value.detach().requires_grad_() for value in values]
        if self.learned:
            values += [theta.requires_grad_(), tau.requires_grad_()]
        start = None if self.membrane is None else values[1]
        numbers = (theta, tau) if self.learned else (theta.item(), tau.item())
        how = {"hard": self.hard, "rule": rule, "memory": memory, "steps": self.steps}
        with kernel(name):
            for _ in range(calls):
                spikes, after = integrate_and_fire(values[0], start, *numbers, **how)
            weights = torch.cos(torch.arange(spikes.numel())).view_as(spikes)
            loss = (weights * spikes).sum() + (weights[0] * after).sum()
            with torch.no_grad():
                quiet = integrate_and_fire(values[0], start, *numbers, **how)
            assert torch.equal(quiet[0], spikes), "the spikes depend on the gradient's mode"
            assert same(quiet[1], after)
            found = [spikes.detach(), after.detach(), *torch.autograd.grad(loss, values)]
        kept = [] if memory is None else [*(memory.means or (None, None))]
        return found + kept


def same(a: Tensor, b: Tensor) -> bool:
    """Returns whether two tensors hold the same bits, all NaN being one."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def cases(*, hard: bool) -> Iterator[Case]:
    """Yields every length in every layout, with and without a start and learned parameters."""
    source = generator(0, "kernel")
    learned, started = cycle([False, True]), cycle([False, False, True])
    for steps in LENGTHS:
        x = torch.randn((steps, 3, 5, 2, 7), generator=source) * 0.8 + 0.4
        start = torch.randn((3, 5, 2, 7), generator=source) * 0.5
        for lay in LAYOUTS.values():
            current = lay(x).view_as(x) if lay(x).dim() == 4 else lay(x)
            yield Case(current, start if next(started) else None, next(learned), hard)
        held = LAYOUTS["channels last"](x[:1])[None]
        yield Case(held, start if next(started) else None, next(learned), hard, steps)
        yield Case(x[..., 0, 0], start[..., 0, 0] if next(started) else None, True, hard)
        yield Case(x[:, :0], None, False, hard)


def assert_kernel(rule: Rule, *, exact: bool) -> None:
    """Equal to the reference everywhere: spikes, membrane and memory in bits, gradients closely."""
    for hard in (True, False):
        for case in cases(hard=hard):
            _assert_equal(case, rule, exact=exact)
    _assert_alone(rule)
    _assert_strange(rule)
    _assert_threads(rule)


def _assert_equal(case: Case, rule: Rule, *, exact: bool) -> None:
    ours, theirs = (case.run(rule, name, 2) for name in ("auto", "reference"))
    kept = 2 if rule.memory() is not None else 0
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        where = f"{index} of T = {case.steps or len(case.current)}, strides {case.current.stride()}"
        assert a.shape == b.shape, where
        summed = rule.averaged or (case.steps or 0) > PIECE
        if index < 2 or index >= len(ours) - kept or (exact and index == 2 and not summed):
            assert torch.equal(a, b), where
        elif a.numel():
            scale = 1e-6 * max(1.0, b.abs().max().item()) * (20 if b.dim() == 0 else 1)
            torch.testing.assert_close(a, b, rtol=1e-6, atol=scale, msg=lambda m, w=where: w + m)


def _big() -> Case:
    source = generator(1, "kernel")
    x = torch.randn((8, 4, 9000), generator=source) + 0.3
    return Case(x, torch.randn((4, 9000), generator=source), learned=True, hard=False)


def _assert_alone(rule: Rule) -> None:
    case = _big()
    whole = case.run(rule, "auto")
    for i in (0, 3):
        lone = Case(case.current[:, i : i + 1], case.membrane[i : i + 1], learned=True, hard=False)
        spikes, after = lone.run(rule, "auto")[:2]
        assert torch.equal(spikes[:, 0], whole[0][:, i])
        assert torch.equal(after[0], whole[1][i])


def _assert_strange(rule: Rule) -> None:
    source = generator(2, "kernel")
    x = torch.randn((5, 2, 40), generator=source) + 0.4
    for at, value in enumerate((torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-42, -0.0)):
        x[2, 0, 3 * at] = value
    for hard in (True, False):
        case = Case(x, None, learned=False, hard=hard)
        ours, theirs = (case.run(rule, name) for name in ("auto", "reference"))
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            assert same(a, b)
        a, b = ours[2], theirs[2]
        assert torch.equal(a.isnan(), b.isnan()), "a gradient that is not a number, or hides one"
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def _assert_threads(rule: Rule) -> None:
    case, before = _big(), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(case.run(rule, "auto"))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(same(a, b) for a, b in zip(found[0], other, strict=True)), "threads matter"
