"""The sparsity trail: how much of a gradient each operation of a network lets through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from spikeproof.attacks import CE, Loss, Victim, frozen
from spikeproof.errors import Refusal
from spikeproof.seeding import derive
from spikeproof.spiking import CBA, Analog, Encode, Rule, Spiking, forget

RELATIVE = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)  # of the largest entry of the sample
FAMILIES: tuple[tuple[str, tuple[type[nn.Module], ...]], ...] = (
    ("neuron", (Spiking, Analog)),
    ("conv", (nn.modules.conv._ConvNd,)),
    ("linear", (nn.Linear, nn.Bilinear)),
    ("norm", (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)),
    ("max_pool", (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)),
    ("avg_pool", (nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd)),
)
PASSED = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Sequential, Encode)  # no operation of their own
ADDS = ("add", "add_", "__add__", "__radd__", "__iadd__")


@dataclass(frozen=True)
class Operation:
    """The gradient at the input of one operation; tuples have one entry per sample.

    ``entries`` counts its input over all steps of time, ``l0`` those that are not exactly zero.
    ``near`` has a tuple for each threshold of ``RELATIVE``: the share of entries whose size is at
    most that share of the largest. ``weights`` counts the entries of its weight, of which
    ``weight_l0`` get a gradient.
    """

    name: str
    kind: str
    entries: tuple[int, ...]
    l0: tuple[int, ...]
    l1: tuple[float, ...]
    l2: tuple[float, ...]
    largest: tuple[float, ...]
    near: tuple[tuple[float, ...], ...]
    weights: int = 0
    weight_l0: tuple[int, ...] = ()

    @property
    def zeros(self) -> tuple[float, ...]:
        """The share of entries that are exactly zero."""
        pairs = zip(self.l0, self.entries, strict=True)
        return tuple(1 - count / max(size, 1) for count, size in pairs)

    @property
    def weight_density(self) -> tuple[float, ...]:
        """The share of the weight's entries whose gradient is not exactly zero."""
        return tuple(count / self.weights for count in self.weight_l0)


@dataclass(frozen=True)
class Trail:
    """Operations in the order in which they are called, from the input to the output."""

    operations: tuple[Operation, ...]

    def __getitem__(self, name: str) -> Operation:
        return next(operation for operation in self.operations if operation.name == name)


@dataclass
class _Row:
    """One operation and one sample."""

    kind: str
    weight: nn.Parameter | None = None
    sizes: list[int] = field(default_factory=list)
    parts: list[Tensor] = field(default_factory=list)
    weight_l0: int = 0


def trail(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    rule: Rule | CBA | None = None,
    *,
    loss: Loss | None = None,
    seed: int = 0,
) -> Trail:
    """Returns the trail of the loss's gradient; ``rule=None`` is the model's own gradient.

    Every sample passes alone, so its numbers are the same, bit for bit, in any company. Operations
    are layers of neurons, modules without children, and sums of two activations. An operation that
    no gradient reaches has one of zeros.
    """
    loss = loss or CE()
    if loss.per_step or loss.targeted:
        raise Refusal(
            f"{loss} asks for single steps or a target; a trail begins at one number made of "
            "logits and label; take CE() or Margin()"
        )
    with frozen(model):
        victim = Victim(model, rule)
        victim.redraw(derive(seed, "trail"))
        rows = [_pass(victim.source, x[i : i + 1], y[i : i + 1], loss) for i in range(len(x))]
    return _assembled(rows)


def joined(parts: Sequence[Trail]) -> Trail:
    """Returns one trail of parts of the samples."""
    counts = [len(part.operations[0].l0) for part in parts]
    names = dict.fromkeys(op.name for part in parts for op in part.operations)
    return Trail(tuple(_joined(name, parts, counts) for name in names))


def _joined(name: str, parts: Sequence[Trail], counts: Sequence[int]) -> Operation:
    known = [{op.name: op for op in part.operations}.get(name) for part in parts]
    first = next(op for op in known if op is not None)
    found = [op or _silent(first, count) for op, count in zip(known, counts, strict=True)]
    columns: dict[str, Any] = {
        entry.name: tuple(value for op in found for value in getattr(op, entry.name))
        for entry in fields(Operation)
        if entry.name not in ("name", "kind", "near", "weights")
    }
    near = tuple(tuple(v for op in found for v in op.near[i]) for i in range(len(RELATIVE)))
    return replace(first, near=near, **columns)


def _silent(like: Operation, count: int) -> Operation:
    """Returns an operation that was never called for these samples."""
    none, zero = (0,) * count, (0.0,) * count
    reached = none if like.weight_l0 else ()
    return replace(
        like, entries=none, l0=none, l1=zero, l2=zero, largest=zero,
        near=(zero,) * len(RELATIVE), weight_l0=reached,
    )  # fmt: skip


def _pass(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> dict[str, _Row]:
    forget(model)
    rows: dict[str, _Row] = {"input": _Row("input")}
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad(), _watched(model, rows):
        logits = model(x)
        rows["output"] = _Row("output")
        _follow(rows["output"], logits)
        value = loss(logits, y, y).sum()
        if not value.requires_grad:
            raise Refusal(
                f"no gradient enters {type(model).__name__}; a trail follows one from the logits "
                "back; let the logits depend on the input without detach"
            )
        weights = {name: row.weight for name, row in rows.items() if row.weight is not None}
        gradients = torch.autograd.grad(value, [x, *weights.values()], allow_unused=True)
    rows["input"].sizes.append(x.numel())
    if gradients[0] is not None:
        rows["input"].parts.append(gradients[0].detach())
    for name, gradient in zip(weights, gradients[1:], strict=True):
        rows[name].weight_l0 = 0 if gradient is None else int(gradient.count_nonzero())
    return rows


def _follow(row: _Row, x: Tensor) -> None:
    row.sizes.append(x.numel())
    if x.requires_grad:
        x.register_hook(lambda gradient: row.parts.append(gradient.detach()))


@contextmanager
def _watched(model: nn.Module, rows: dict[str, _Row]) -> Iterator[None]:
    """Notes the gradient at every operation of the passes made inside, and at its weight."""
    inside: list[str] = []
    found = operations(model)
    weights = [weight for module in found.values() if (weight := _weight(module)) is not None]

    def enter(name: str) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
            inside.append(name)
            if name not in found or not inputs or not isinstance(inputs[0], Tensor):
                return None
            row = rows.setdefault(name, _Row(_kind(module), _weight(module)))
            x = inputs[0].view_as(inputs[0])  # its gradient is that of this operation alone
            _follow(row, x)
            return (x, *inputs[1:])

        return hook

    def leave(_: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001  as hooks are called
        inside.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        for weight in weights:
            stack.callback(weight.requires_grad_, weight.requires_grad)
            weight.requires_grad_()
        stack.enter_context(_Sums(rows, inside, found))
        yield


class _Sums(TorchFunctionMode):
    """Notes the gradient at sums of two activations: where a shortcut meets its branch."""

    def __init__(
        self, rows: dict[str, _Row], inside: list[str], found: dict[str, nn.Module]
    ) -> None:
        super().__init__()
        self.rows, self.inside, self.found = rows, inside, found

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ADDS and not set(self.inside) & self.found.keys():
            one, other = args[0], args[1] if len(args) > 1 else None
            if _alike(one, other) and one.dim() > 1:
                name = ".".join(part for part in (*self.inside[-1:], "add") if part)
                _follow(self.rows.setdefault(name, _Row("add")), out)
        return out


def _alike(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.requires_grad and other.requires_grad and one.shape == other.shape


def operations(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the modules that a trail looks at, by name."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") or not outer for outer in found)
        whole = not any(True for _ in module.children()) or _kind(module) != "other"
        if whole and not inside and not isinstance(module, (*PASSED, nn.ModuleList)):
            found[name] = module
    return found


def _kind(module: nn.Module) -> str:
    return next((kind for kind, types in FAMILIES if isinstance(module, types)), "other")


def _weight(module: nn.Module) -> nn.Parameter | None:
    weight = module._parameters.get("weight")
    return weight if weight is not None and weight.dim() > 1 else None


def _assembled(samples: Sequence[dict[str, _Row]]) -> Trail:
    names = dict.fromkeys(name for rows in samples for name in rows)
    order = [*(name for name in names if name != "output"), *(n for n in names if n == "output")]
    return Trail(tuple(_operation(name, [rows.get(name) for rows in samples]) for name in order))


def _operation(name: str, rows: Sequence[_Row | None]) -> Operation:
    first = next(row for row in rows if row is not None)
    weight = first.weight
    columns = [*zip(*(_measured(row or _Row(first.kind)) for row in rows), strict=True)]
    entries, l0, l1, l2, largest, *near = columns
    return Operation(
        name=name,
        kind=first.kind,
        entries=entries,
        l0=l0,
        l1=l1,
        l2=l2,
        largest=largest,
        near=tuple(near),
        weights=0 if weight is None else weight.numel(),
        weight_l0=() if weight is None else tuple(row.weight_l0 if row else 0 for row in rows),
    )


def _measured(row: _Row) -> tuple[Any, ...]:
    """Returns entries, l0, l1, l2, the largest, and the shares near zero."""
    entries = sum(row.sizes)
    nothing = torch.zeros(0, dtype=torch.float64)
    size = torch.cat([nothing, *(part.flatten().double().abs().cpu() for part in row.parts)])
    absent = entries - len(size)  # where the backward pass never came
    largest = float(size.max()) if len(size) else 0.0
    near = [(absent + int((size <= share * largest).sum())) / max(entries, 1) for share in RELATIVE]
    l1, l2 = float(size.sum()), float(size.square().sum().sqrt())
    return (entries, int(size.count_nonzero()), l1, l2, largest, *near)
