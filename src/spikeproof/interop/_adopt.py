"""A network of another framework with our neurons in it, and the proof that it is the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.errors import Refusal
from spikeproof.interop import _norse, _snntorch, _spikingjelly
from spikeproof.interop._borrowed import curve_of
from spikeproof.interop._handwritten import HandWrittenNeurons
from spikeproof.interop._lent import ATTRIBUTES, Lent
from spikeproof.interop._norse import NorseNeurons
from spikeproof.interop._proof import Proof, Silent, prove, relax
from spikeproof.interop._sewing import sewn
from spikeproof.interop._snntorch import SnnTorchNeurons
from spikeproof.interop._spikingjelly import SpikingJellyNeurons
from spikeproof.interop._steps import Adapter, Neuron, Standing, Stepped
from spikeproof.spiking import BPTT

BY_HAND = "by hand"
BASES = {
    "spikingjelly": ("BaseNode", "SimpleBaseNode"),
    "snntorch": ("SpikingNeuron",),
    "norse": ("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"),
}
MAKES: dict[str, Callable[[nn.Module], Adapter]] = {
    "spikingjelly": SpikingJellyNeurons,
    "snntorch": SnnTorchNeurons,
    "norse": NorseNeurons,
    BY_HAND: HandWrittenNeurons,
}
WHY_NOT: dict[str, Callable[[Any], str]] = {
    "spikingjelly": _spikingjelly.why_not,
    "snntorch": _snntorch.why_not,
    "norse": _norse.why_not,
    BY_HAND: lambda _: "",
}


@dataclass(frozen=True)
class Adoption:
    """What became of a network's foreign neurons, layer by layer.

    ``replaced`` are now ours; ``lent`` stay, with a gradient rule for their surrogate; ``own`` stay
    with the gradient they have. ``leftover`` began a call where the last one had ended.
    """

    frameworks: dict[str, str]  # and their versions
    replaced: tuple[str, ...] = ()
    lent: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    refused: str = ""  # why nothing was replaced
    samples: int = 0  # on which the logits were compared
    apart: float = 0.0  # the largest difference of a logit
    tolerance: float = 0.0  # what was allowed, of the largest logit
    kept: dict[str, str] = field(default_factory=dict)  # layers that were not replaced, and why

    def __str__(self) -> str:
        names = ", ".join(f"{name} {version}".strip() for name, version in self.frameworks.items())
        count = len(self.replaced)
        told = f"adopted {count} layer{'s' * (count != 1)} of neurons ({names})"
        if self.refused:
            told = f"adopted nothing ({names}): {self.refused}"
        if self.lent or self.own:
            told += f"; {len(self.lent)} keep their own, seen through their surrogate attribute"
            told += f", {len(self.own)} with the gradient they have"
        same = "bit for bit" if self.apart == 0 else f"within {self.apart:.2g}"
        told += f"; logits equal {same} on {self.samples} samples" if self.samples else ""
        if self.leftover:
            told += f"; state is left over in {', '.join(self.leftover)}, and cleared at every call"
        return told


class Adopted(nn.Module):
    """A network that starts every call at rest, with our neurons in the place of others'."""

    adoption: Adoption

    def __init__(self, net: nn.Module, adoption: Adoption) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self.adoption = adoption
        self._wake()

    @override
    def train(self, mode: bool = True) -> Adopted:
        super().train(mode)
        self._wake()
        return self

    def _wake(self) -> None:
        """Keeps nodes that nothing could be done about in the mode in which they have gradients."""
        for name, origin in foreign(self.net).items():
            if origin == "spikingjelly":
                self.net.get_submodule(name).training = True

    @override
    def forward(self, x: Tensor) -> Tensor:
        layers = [module for module in self.net.modules() if isinstance(module, Stepped)]
        averaged = any(layer.rule.averaged and not layer.whole for layer in layers)
        if averaged and torch.is_grad_enabled() and x.requires_grad:
            return sewn(self.net, self._run, x)
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        self.rest()
        out = self.net(x)
        for module in self.net.modules():
            if isinstance(module, Stepped):
                module.finish()
        self.rest()
        return out

    def rest(self) -> None:
        """Clears what neurons remember."""
        for module in self.net.modules():
            if isinstance(module, Adapter):
                module.rest()
            elif isinstance(module, Stepped):
                module.forget()
            relax(module)


def foreign(model: nn.Module) -> dict[str, str]:
    """Returns the layers of neurons that are not ours, by name, and where each comes from."""
    found: dict[str, str] = {}
    done: list[str] = []  # what lies inside a neuron is its own affair
    for name, module in model.named_modules(remove_duplicate=False):
        if any(name.startswith(f"{outer}." if outer else "") for outer in done):
            continue
        if origin := _origin(module):
            found[name] = origin
        if origin or isinstance(module, Standing):
            done.append(name)
    return found


def adopt(model: nn.Module, probes: Sequence[Tensor], *, tolerance: float = 0.0) -> Adopted:
    """Returns a copy of the network with our neurons, proven to answer the same.

    The logits of every batch of ``probes`` must be equal, bit for bit or within ``tolerance`` of
    the largest one; else the layer that differs is named. Neurons that are not known stay.
    """
    layers = _known(model)
    kept = _kept(model, layers)
    if len(kept) == len(layers):
        raise Refusal(
            f"no layer of neurons can be replaced ({grouped(kept)}); ours have the dynamics of "
            "the kinds in docs/interop.md; use lend, or give the neuron the two methods of Neuron"
        )
    net = _copied(model)
    places = {name: at for name, at in layers.items() if name not in kept}
    net = _placed(net, places, lambda module, at: MAKES[at](module))
    return _proven(model, net, layers, probes, tolerance, kept)


def lend(
    model: nn.Module, probes: Sequence[Tensor], *, why: str = "", tolerance: float = 0.0
) -> Adopted:
    """Returns a copy whose foreign neurons stay, each with a gradient rule for its surrogate.

    Those that have no such attribute keep the gradient they have. ``why`` is kept in the record.
    """
    layers = _known(model)
    kept = dict.fromkeys(layers, "all stay") | _kept(model, layers)
    return _proven(model, _copied(model), layers, probes, tolerance, kept, why)


def adopt_or_lend(model: nn.Module, probes: Sequence[Tensor]) -> Adopted:
    """Returns the network adopted, or lent where the proof fails, or with its own gradient."""
    try:
        return adopt(model, probes)
    except Silent:
        raise
    except Refusal as refusal:
        why = str(refusal)
    try:
        return lend(model, probes, why=why)
    except Silent:
        raise
    except Refusal:
        layers = _known(model)
        kept = dict.fromkeys(layers, "nothing about it could be proven")
        told = Adoption(_frameworks(layers), own=tuple(layers), refused=why, kept=kept)
        return Adopted(_copied(model), told)


def adoption_of(model: nn.Module) -> dict[str, Any]:
    """Returns what a record says of a network's foreign neurons; of one without them, nothing."""
    if isinstance(model, Adopted):
        return asdict(model.adoption)
    layers = foreign(model)
    kept = dict.fromkeys(layers, "nobody has adopted it; call spikeproof.interop.adopt_or_lend")
    return asdict(Adoption(_frameworks(layers), own=tuple(layers), kept=kept)) if layers else {}


def grouped(kept: Mapping[str, str]) -> str:
    """Returns layers and why they stay, those of one reason together."""
    whys = dict.fromkeys(kept.values())
    names = {why: [name or "the model" for name, at in kept.items() if at == why] for why in whys}
    return "; ".join(f"{', '.join(at)}: {why}" for why, at in names.items())


def _kept(model: nn.Module, layers: Mapping[str, str]) -> dict[str, str]:
    return {name: why for name, at in layers.items() if (why := _why_not(model, name, at))}


def _proven(
    model: nn.Module,
    net: nn.Module,
    layers: dict[str, str],
    probes: Sequence[Tensor],
    tolerance: float,
    kept: dict[str, str],
    why: str = "",
) -> Adopted:
    net = _placed(net, {name: layers[name] for name in kept}, _lend)
    stay = {name: net.get_submodule(name) for name in kept}
    lent = [name for name, at in stay.items() if isinstance(at, Lent) and at.curve is not None]
    adopted = Adopted(net, Adoption({}))
    proof: Proof = prove(model, adopted, tuple(layers), probes, tolerance)
    adopted.adoption = Adoption(
        _frameworks(layers),
        replaced=tuple(name for name in layers if name not in kept),
        lent=tuple(lent),
        own=tuple(name for name in kept if name not in lent),
        leftover=proof.leftover,
        refused=why,
        samples=proof.samples,
        apart=proof.apart,
        tolerance=tolerance,
        kept=kept,
    )
    return adopted


def _known(model: nn.Module) -> dict[str, str]:
    layers = foreign(model)
    if not layers:
        raise Refusal(
            f"{type(model).__name__} has no neurons of SpikingJelly, snnTorch or Norse, and none "
            "with the methods charge and reset; only such are adopted; see docs/interop.md"
        )
    return layers


def _origin(module: nn.Module) -> str:
    for kind in type(module).__mro__:
        root = kind.__module__.partition(".")[0]
        if kind.__name__ in BASES.get(root, ()):
            return root
    ours = isinstance(module, Standing) or type(module).__module__.startswith("spikeproof.")
    return BY_HAND if isinstance(module, Neuron) and not ours else ""


def _why_not(model: nn.Module, name: str, origin: str) -> str:
    module = model.get_submodule(name)
    kind = type(module)
    if origin != BY_HAND and kind.__module__.partition(".")[0] != origin:
        return f"{kind.__name__} is a class of its own, made from one of {origin}"
    if why := WHY_NOT[origin](module):
        return why
    try:
        MAKES[origin](module)
    except Refusal:
        raise
    except Exception as error:  # noqa: BLE001  a surrogate of anybody's may raise anything
        return f"its settings are not known ({type(error).__name__}: {error})"
    return ""


def _curve(module: nn.Module) -> Any:
    return next((c for name in ATTRIBUTES if (c := getattr(module, name, None))), None)


def _lend(module: nn.Module, origin: str) -> Lent:
    theirs: Any = module
    curve = _curve(module)
    if curve is None:
        return Lent(module, None)
    detached = bool(getattr(theirs, "detach_reset", origin == "snntorch"))
    try:
        rule = BPTT(curve_of(curve), detached)
    except Exception:  # noqa: BLE001  a surrogate of anybody's may raise anything
        return Lent(module, None)
    return Lent(module, rule, strict=origin == "snntorch")


def _placed(
    net: nn.Module, layers: dict[str, str], make: Callable[[nn.Module, str], nn.Module]
) -> nn.Module:
    """Returns the network with these layers replaced; one that has two names stays one."""
    made: dict[nn.Module, nn.Module] = {}
    for name, origin in layers.items():
        module = net.get_submodule(name)
        if module not in made:
            made[module] = make(module, origin)
        if not name:
            return made[module]
        net.set_submodule(name, made[module])
    return net


def _copied(model: nn.Module) -> nn.Module:
    """Returns a copy at rest; tensors that a graph hangs on, as states left over, lose it."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        held = [*vars(module).values(), *vars(module).get("_memories", {}).values()]
        held += module.buffers(recurse=False)
        for value in _tensors(held):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        net = copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise Refusal(
            f"{type(model).__name__} cannot be copied ({error}); our neurons are put into a copy; "
            "let it hold no results of an earlier call"
        ) from None
    for module in net.modules():
        relax(module)
    return net


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yields tensors, those in lists, tuples and tables of some depth among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple | dict):
            yield from _tensors(value.values() if isinstance(value, dict) else value)


def _frameworks(layers: dict[str, str]) -> dict[str, str]:
    return {origin: _version(origin) for origin in sorted({*layers.values()})}


def _version(origin: str) -> str:
    try:
        return "" if origin == BY_HAND else metadata.version(origin)
    except metadata.PackageNotFoundError:
        return "of unknown version"
